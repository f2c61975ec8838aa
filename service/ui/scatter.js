// Estimates against true redshifts, on a canvas; a click, or the arrow keys, choose a galaxy.

const SIZE = 420, MARGIN = 44, NEAR = 12;

export class Scatter {
  constructor(canvas, choose) {
    this.canvas = canvas;
    this.choose = choose;
    canvas.addEventListener("click", (event) => this.click(event));
    canvas.addEventListener("keydown", (event) => this.type(event));
  }

  /** Show z_phot against z_spec, of the galaxies in rows. */
  show(zSpec, zPhot, rows, zMax, chosen) {
    Object.assign(this, { zSpec, zPhot, zMax, chosen });
    this.rows = Array.from(rows).sort((a, b) => zSpec[a] - zSpec[b]);
    this.draw();
  }

  place(row) {
    const scale = (SIZE - 2 * MARGIN) / this.zMax;
    return [MARGIN + this.zSpec[row] * scale, SIZE - MARGIN - this.zPhot[row] * scale];
  }

  draw() {
    const { canvas } = this, ratio = window.devicePixelRatio || 1, context = canvas.getContext("2d");
    canvas.width = canvas.height = SIZE * ratio;
    context.scale(ratio, ratio);
    const style = getComputedStyle(canvas);
    context.strokeStyle = context.fillStyle = style.color;
    context.font = "12px system-ui, sans-serif";
    context.strokeRect(MARGIN, MARGIN, SIZE - 2 * MARGIN, SIZE - 2 * MARGIN);
    context.setLineDash([5, 4]);
    context.beginPath();
    context.moveTo(MARGIN, SIZE - MARGIN);
    context.lineTo(SIZE - MARGIN, MARGIN);
    context.stroke();
    context.textAlign = "center";
    context.fillText("z_spec", SIZE / 2, SIZE - 10);
    context.fillText(`${this.zMax}`, SIZE - MARGIN, SIZE - MARGIN + 16);
    context.fillText("0", MARGIN, SIZE - MARGIN + 16);
    context.save();
    context.translate(16, SIZE / 2);
    context.rotate(-Math.PI / 2);
    context.fillText("z_mean", 0, 0);
    context.restore();
    context.fillStyle = style.getPropertyValue("--accent");
    const half = this.rows.length < 500 ? 2.5 : 1.5;
    context.globalAlpha = Math.max(0.15, Math.min(0.8, 300 / this.rows.length));
    for (const row of this.rows) {
      const [x, y] = this.place(row);
      context.fillRect(x - half, y - half, 2 * half, 2 * half);
    }
    context.globalAlpha = 1;
    if (this.rows.includes(this.chosen)) {
      const [x, y] = this.place(this.chosen);
      context.setLineDash([]);
      context.lineWidth = 2;
      context.strokeStyle = style.getPropertyValue("--warn");
      context.strokeRect(x - 6, y - 6, 12, 12);
    }
  }

  click(event) {
    const box = this.canvas.getBoundingClientRect(), scale = SIZE / box.width;
    const [x, y] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    const distance = (row) => Math.hypot(this.place(row)[0] - x, this.place(row)[1] - y);
    const nearest = this.rows.reduce((best, row) => (distance(row) < distance(best) ? row : best), this.rows[0]);
    if (distance(nearest) <= NEAR) this.choose(nearest);
  }

  type(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const at = this.rows.indexOf(this.chosen);
    this.choose(this.rows[Math.max(0, Math.min(this.rows.length - 1, at < 0 ? 0 : at + step))]);
  }
}
