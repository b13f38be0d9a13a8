/* Runs the policy of cheetah.js with ONNX Runtime on MuJoCo, both as WebAssembly, and draws them.
 *
 * Both are loaded from a CDN when the reader starts the page, because they are 24 MB; without a
 * network, the page says so. `?packages=URL` names another place of node_modules.
 */
"use strict";
{
  const PACKAGES = new URLSearchParams(location.search).get("packages") || "https://cdn.jsdelivr.net/npm";
  const VERSIONED = PACKAGES.includes("jsdelivr");
  const ORT = `${PACKAGES}/onnxruntime-web${VERSIONED ? "@1.30.0" : ""}/dist/`;
  const MUJOCO = `${PACKAGES}/@mujoco/mujoco${VERSIONED ? "@3.14.0" : ""}/mujoco.js`;
  const SHOWN = 3; // seconds of the strips
  const COLOURS = { inter: "#009e73", command: "#cc79a7", motor: "#e69f00" };
  const POSITIVE = [213, 94, 0], NEGATIVE = [0, 114, 178], NONE = [247, 247, 247];
  const FALLEN = 2.2; // radians of the torso, from which it lies on its back
  const BACK = 3; // seconds after which it begins anew there

  const find = (id) => document.getElementById(id);
  const say = (text) => { find("cheetah-says").textContent = text; };

  const tensor = (ort, values, size) => new ort.Tensor("float32", Float32Array.from(values), [1, size]);

  class Robot {
    constructor(mujoco, ort, session) {
      this.mujoco = mujoco;
      this.ort = ort;
      this.session = session;
      this.model = mujoco.MjModel.from_xml_string(CHEETAH.xml);
      this.data = new mujoco.MjData(this.model);
      this.neurons = Object.values(CHEETAH.layers).reduce((sum, count) => sum + count, 0);
      this.reset();
    }

    reset() {
      this.mujoco.mj_resetData(this.model, this.data);
      for (let i = 0; i < this.model.nq; ++i) this.data.qpos[i] += 0.2 * (Math.random() - 0.5);
      this.mujoco.mj_forward(this.model, this.data);
      this.state = new Float32Array(this.neurons);
      this.action = new Float32Array(this.model.nu);
      this.starts = true;
      this.onBack = 0;
      this.history = [];
    }

    /* Observe, act, and simulate until the next observation. */
    async step(interval) {
      const elapsed = this.starts ? CHEETAH.interval : this.elapsed;
      const outputs = await this.session.run({
        observation: tensor(this.ort, this.data.qpos.slice(1), this.model.nq - 1),
        elapsed_time: tensor(this.ort, [elapsed], 1),
        state: tensor(this.ort, this.state, this.neurons),
        episode_start: tensor(this.ort, [this.starts ? 1 : 0], 1),
      });
      this.starts = false;
      this.state = outputs.next_state.data;
      this.action = outputs.action.data;
      this.data.ctrl.set(this.action);
      const steps = Math.max(1, Math.round(interval / this.model.opt.timestep));
      this.elapsed = steps * this.model.opt.timestep;
      this.history.push({ until: this.data.time + this.elapsed, elapsed: this.elapsed,
        state: Float32Array.from(this.state), action: Float32Array.from(this.action) });
      for (let i = 0; i < steps; ++i) this.mujoco.mj_step(this.model, this.data);
      while (this.history[0].until < this.data.time - SHOWN) this.history.shift();
      this.onBack = Math.abs(this.data.qpos[2]) > FALLEN ? this.onBack + this.elapsed : 0;
      if (this.onBack > BACK) this.reset();
    }

    push() {
      this.data.qvel[0] -= 3;
      this.data.qvel[2] += 4;
    }
  }

  const colour = (value) => {
    const share = Math.min(1, Math.abs(value)), end = value < 0 ? NEGATIVE : POSITIVE;
    return `rgb(${NONE.map((none, i) => Math.round(none + share * (end[i] - none))).join()})`;
  };

  /* The robot from the side: its geoms are capsules. */
  function drawRobot(context, robot, width, height) {
    const { data, model } = robot, scale = height / 1.9, ground = 0.86 * height;
    const left = data.qpos[0] - width / scale / 2;
    const place = (x, z) => [(x - left) * scale, ground - z * scale];
    context.fillStyle = "#fff";
    context.fillRect(0, 0, width, height);
    context.fillStyle = "#e8e4dc";
    context.fillRect(0, ground, width, height - ground);
    context.fillStyle = context.strokeStyle = "#767676";
    context.font = "12px sans-serif";
    context.lineWidth = 1;
    for (let metre = Math.ceil(left); metre < left + width / scale; ++metre) {
      const [x] = place(metre, 0);
      context.fillRect(x, ground, 1, 6);
      context.fillText(`${metre} m`, x + 4, ground + 16);
    }
    context.lineCap = "round";
    for (let geom = 0; geom < model.ngeom; ++geom) {
      if (model.geom_type[geom] !== 3) continue; // capsules; the other one is the floor
      const [radius, half] = model.geom_size.slice(3 * geom, 3 * geom + 2);
      const [x, , z] = data.geom_xpos.slice(3 * geom, 3 * geom + 3);
      const turn = data.geom_xmat.slice(9 * geom, 9 * geom + 9); // its axis is the third column
      context.strokeStyle = ["#5b6770", "#8a5a2b", "#b5793f", "#d19a5e"][geom % 4];
      context.lineWidth = 2 * radius * scale;
      context.beginPath();
      context.moveTo(...place(x - half * turn[2], z - half * turn[8]));
      context.lineTo(...place(x + half * turn[2], z + half * turn[8]));
      context.stroke();
    }
  }

  /* Neurons, actions and elapsed time of the last seconds; a column lasts as long as its step. */
  function drawStrips(context, robot, width, height) {
    const left = 84, right = width - 4, now = robot.data.time, rows = [];
    const neurons = 0.68 * height, actions = 0.2 * height, gap = 4;
    context.fillStyle = "#fff";
    context.fillRect(0, 0, width, height);
    context.font = "12px sans-serif";
    let top = 0, first = 0;
    for (const [layer, count] of Object.entries(CHEETAH.layers)) {
      const tall = (neurons * count) / robot.neurons;
      rows.push({ layer, top, tall, first, count, of: "state" });
      first += count;
      top += tall + gap;
    }
    rows.push({ layer: "actions", top, tall: actions, first: 0, count: CHEETAH.actions.length, of: "action" });
    const floor = height - 2, highest = floor - top - actions - gap;
    for (const step of robot.history) {
      const from = Math.max(left, right - ((now - step.until + step.elapsed) / SHOWN) * (right - left));
      const wide = Math.max(0, right - ((now - step.until) / SHOWN) * (right - left) - from);
      for (const row of rows) {
        for (let i = 0; i < row.count; ++i) {
          context.fillStyle = colour(step[row.of][row.first + i]);
          context.fillRect(from, row.top + (row.tall * i) / row.count, wide + 0.5, row.tall / row.count + 0.5);
        }
      }
      context.fillStyle = "#767676";
      const tall = Math.min(highest, (step.elapsed / 0.1) * highest);
      context.fillRect(from, floor - tall, wide + 0.5, tall);
    }
    for (const row of rows) {
      context.fillStyle = COLOURS[row.layer] || "#222";
      context.fillRect(left - 8, row.top, 4, row.tall);
      context.fillStyle = "#222";
      context.fillText(row.layer, 2, row.top + row.tall / 2 + 4);
    }
    context.fillStyle = "#222";
    context.fillText("elapsed time", 2, floor - 4);
  }

  async function start() {
    find("cheetah-start").disabled = true;
    say("Loading MuJoCo and ONNX Runtime, 24 MB, once …");
    let mujoco, ort;
    try {
      ort = await import(`${ORT}ort.wasm.min.mjs`);
      ort.env.wasm.wasmPaths = ORT;
      ort.env.wasm.numThreads = 1;
      mujoco = await (await import(MUJOCO)).default();
    } catch (error) {
      find("cheetah-start").disabled = false;
      say(`MuJoCo and ONNX Runtime cannot be loaded from ${PACKAGES}: is this computer offline? (${error.message})`);
      return;
    }
    const bytes = Uint8Array.from(atob(CHEETAH.onnx), (letter) => letter.charCodeAt(0));
    const robot = new Robot(mujoco, ort, await ort.InferenceSession.create(bytes));
    const views = ["cheetah-robot", "cheetah-neurons"].map(find);
    for (const view of views) {
      const sharp = window.devicePixelRatio || 1;
      view.width = view.clientWidth * sharp;
      view.height = view.clientHeight * sharp;
      view.getContext("2d").scale(sharp, sharp);
    }
    for (const id of ["cheetah-push", "cheetah-rate"]) find(id).disabled = false;
    find("cheetah-push").onclick = () => robot.push();
    say("");
    let began = performance.now() / 1000 - robot.data.time;
    for (;;) {
      const clock = await new Promise(requestAnimationFrame).then((milliseconds) => milliseconds / 1000);
      if (clock - began - robot.data.time > 0.5 || robot.data.time > clock - began + 0.5) {
        began = clock - robot.data.time; // the page was hidden, or an episode begins
      }
      while (robot.data.time < clock - began) await robot.step(Number(find("cheetah-rate").value));
      drawRobot(views[0].getContext("2d"), robot, views[0].clientWidth, views[0].clientHeight);
      drawStrips(views[1].getContext("2d"), robot, views[1].clientWidth, views[1].clientHeight);
      const speed = robot.data.qvel[0].toFixed(1), rate = Math.round(1 / robot.elapsed);
      find("cheetah-facts").textContent = `${robot.data.time.toFixed(1)} s, ${speed} m/s, control ${rate} Hz`;
    }
  }

  find("cheetah-start").onclick = start;
}
