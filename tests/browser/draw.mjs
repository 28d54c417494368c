// node draw.mjs BOARDS.json FOLDER CHROMIUM: draws each board of the file into a PNG of the folder.
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { chromium } from 'playwright-core';

const here = dirname(fileURLToPath(import.meta.url));
const [file, folder, program] = process.argv.slice(2);
await mkdir(folder, { recursive: true });

// Its default export lies one level deeper for whoever imports it from a module.
const scrollbars = {
  name: 'scrollbars',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^react-custom-scrollbars-2$/ }, ({ path }) => ({
      path,
      namespace: 'scrollbars',
    }));
    onLoad({ filter: /./, namespace: 'scrollbars' }, ({ path }) => ({
      contents: `export { Scrollbars as default, Scrollbars } from '${path}/lib/index.js';`,
      resolveDir: here,
    }));
  },
};

const { outputFiles } = await build({
  entryPoints: [join(here, 'page.jsx')],
  bundle: true,
  write: false,
  outdir: folder,
  format: 'iife',
  jsx: 'automatic',
  minify: false,
  define: { 'process.env.NODE_ENV': '"production"', global: 'window' },
  loader: { '.svg': 'dataurl', '.woff': 'empty', '.woff2': 'empty', '.ttf': 'empty' },
  logLevel: 'error',
  plugins: [scrollbars],
});
const script = outputFiles.find((f) => f.path.endsWith('.js')).text;
const style = outputFiles.filter((f) => f.path.endsWith('.css')).map((f) => f.text).join('\n');

const empty = join(folder, 'page.html');
await writeFile(empty, `<!doctype html><style>body{margin:8px}${style}</style><div id="root"></div>`);
const browser = await chromium.launch({
  executablePath: program,
  args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'],
});
const told = {};
try {
  for (const { name, board, from, to } of JSON.parse(await readFile(file, 'utf8'))) {
    const page = await browser.newPage({ viewport: { width: 1616, height: 1000 } });
    const errors = [];
    page.on('pageerror', (error) => errors.push(String(error.stack ?? error)));
    // From a file: a page without an address may keep nothing, and Grafana's code asks for that.
    await page.goto(`file://${empty}`);
    await page.addScriptTag({ content: script });
    if (errors.length) throw new Error(errors.join('\n'));
    await page.evaluate(([b, f, t]) => window.draw(b, f, t), [board, from, to]);
    await page
      .waitForFunction((n) => document.querySelectorAll('section').length >= n, board.panels.length)
      .catch((late) => {
        throw new Error([late, ...errors].join('\n'));
      });
    await page.waitForTimeout(1500);
    const titles = await page.$$eval('section h2', (found) => found.map((h) => h.textContent));
    const canvases = await page.$$eval('canvas', (found) =>
      // How many points have a colour: frames, grids and words are grey.
      found.map((c) => {
        const { data } = c.getContext('2d').getImageData(0, 0, c.width, c.height);
        let coloured = 0;
        for (let i = 0; i < data.length; i += 4) {
          const point = [data[i], data[i + 1], data[i + 2]];
          if (data[i + 3] > 100 && Math.max(...point) - Math.min(...point) > 60) coloured += 1;
        }
        return coloured;
      })
    );
    const text = await page.$eval('#root', (root) => root.innerText);
    await (await page.$('#root > div')).screenshot({ path: join(folder, `dashboard-${name}.png`) });
    told[name] = { errors, titles, canvases, text };
    await page.close();
  }
} finally {
  await browser.close();
}
await writeFile(join(folder, 'told.json'), JSON.stringify(told, null, 1));
