"""Ways to find the faces in a photograph, a file for each; `faces.open_detector` names them."""

DETECTORS_HELP = "haar, rnn[@SCORE][:MODEL.onnx], yunet:MODEL.onnx or centre[@SHARE]"
