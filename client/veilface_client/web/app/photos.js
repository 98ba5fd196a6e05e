// Photographs, from the camera or from files. They stay in this tab until they are sent.

import { button, h, translate } from "./dom.js";

/** Return {element, files, clear, stop} to choose one photograph, or up to `most`. */
export function photoPicker(most = 1) {
  let chosen = [];
  let stream = null;
  const list = h("ul", { class: "photos", tLabel: "photos.chosen" });
  const trouble = h("p", { class: "hint warn", role: "alert" });
  const video = h("video", { muted: true, playsInline: true, autoplay: true, tLabel: "photos.view" });
  const shutter = button("photos.take", take, "primary");
  const stage = h("div", { class: "stage", hidden: true },
    h("div", { class: "frame" }, video, h("div", { class: "oval", "aria-hidden": "true" })), shutter);
  const camera = button("photos.camera", () => (stream ? stop() : open()));
  const files = h("input", {
    type: "file", accept: "image/*", multiple: most > 1, class: "unseen", id: crypto.randomUUID(),
    on: { change: () => { add([...files.files]); files.value = ""; } },
  });
  const label = h("label", { htmlFor: files.id, class: "as-button", t: most > 1 ? "photos.files" : "photos.file" });
  const element = h("fieldset", { class: "picker" },
    h("legend", { t: most > 1 ? "photos.many" : "photos.one" }),
    h("div", { class: "row" }, camera, h("span", { class: "file" }, files, label)), trouble, stage, list);

  function name(key) {
    camera.dataset.t = key;
    translate(camera);
  }

  async function open() {
    trouble.replaceChildren();
    try {
      const wanted = { facingMode: "user", width: { ideal: 1280 }, height: { ideal: 720 } };
      stream = await navigator.mediaDevices.getUserMedia({ video: wanted, audio: false });
    } catch {
      trouble.replaceChildren(h("span", { t: "photos.no-camera" }));
      return;
    }
    video.srcObject = stream;
    stage.hidden = false;
    name("photos.close");
    await video.play();
    shutter.focus();
  }

  function stop() {
    stream?.getTracks().forEach((track) => track.stop());
    stream = null;
    video.srcObject = null;
    stage.hidden = true;
    name("photos.camera");
  }

  async function take() {
    if (!video.videoWidth) return;
    const canvas = h("canvas", { width: video.videoWidth, height: video.videoHeight });
    canvas.getContext("2d").drawImage(video, 0, 0);
    const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.95));
    add([new File([blob], "camera.jpg", { type: "image/jpeg" })]);
    if (most === 1) stop();
  }

  function add(more) {
    chosen = most === 1 ? more.slice(0, 1) : [...chosen, ...more].slice(0, most);
    draw();
  }

  function draw() {
    list.replaceChildren(...chosen.map((file, number) => {
      const address = URL.createObjectURL(file);
      const image = h("img", { src: address, alt: "", on: { load: () => URL.revokeObjectURL(address) } });
      const remove = h("button", {
        type: "button", class: "remove", tLabel: "photos.remove", tArgs: { number: number + 1 },
        on: { click: () => { chosen.splice(number, 1); draw(); camera.focus(); } },
      }, "×");
      return h("li", {}, image, remove);
    }));
    element.dispatchEvent(new Event("chosen", { bubbles: true }));
  }

  return { element, stop, files: () => chosen, clear: () => { chosen = []; draw(); } };
}

/** Show how many photographs are missing: true if there is one at least. */
export function verifyChosen(picker, tell) {
  if (picker.files().length) return true;
  tell.show(h("p", { class: "panel bad", t: "photos.missing" }));
  return false;
}
