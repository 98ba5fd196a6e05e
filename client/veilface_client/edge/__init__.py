"""Recognition on a small machine: a released model as ONNX, a sealed gallery, no PyTorch.

`notes`, `embedder`, `gallery` and `recogniser` run there; `export` makes the model's file at home.
"""
