// One dashboard's panels, drawn with Grafana's own components from a real Prometheus' answers.
import {
  FieldType,
  createTheme,
  dateTime,
  getDisplayProcessor,
  standardTransformers,
  standardTransformersRegistry,
  toDataFrame,
  transformDataFrame,
} from '@grafana/data';
import { initPluginTranslations } from '@grafana/i18n';
import {
  BarGauge,
  BigValue,
  BigValueColorMode,
  BigValueGraphMode,
  BigValueTextMode,
  GlobalStyles,
  PanelChrome,
  Table,
  ThemeContext,
  TimeSeries,
  VizRepeater,
} from '@grafana/ui';
import { createRoot } from 'react-dom/client';
import { firstValueFrom } from 'rxjs';

const WIDTH = 1600;
const ROW = 30;
const GAP = 8;
const theme = createTheme({ colors: { mode: 'light' } });

function matches({ id, options }, name) {
  return id === 'byRegexp' ? new RegExp(options.slice(1, -1)).test(name) : options === name;
}

// What Grafana does with a panel's defaults and its overrides by name.
function configured(panel, field, name, seriesIndex) {
  const { defaults, overrides } = panel.fieldConfig;
  const config = { ...defaults, custom: { ...defaults.custom } };
  for (const { matcher, properties } of overrides ?? []) {
    if (matches(matcher, name)) {
      for (const { id, value } of properties) {
        if (id.startsWith('custom.')) config.custom[id.slice(7)] = value;
        else config[id] = value;
      }
    }
  }
  if (!config.color) {
    config.color = { mode: panel.type === 'timeseries' ? 'palette-classic' : 'thresholds' };
  }
  const ready = { ...field, config: { ...config, displayName: name }, state: { seriesIndex } };
  ready.display = getDisplayProcessor({ field: ready, theme });
  return ready;
}

function legend(target, metric) {
  const format = target.legendFormat;
  if (format && format !== '__auto') {
    return format.replace(/{{\s*(\w+)\s*}}/g, (_, label) => metric[label] ?? '');
  }
  return Object.values(metric).join(' ') || target.expr;
}

function seriesOf(panel) {
  return panel.answers.flatMap((answer, i) =>
    answer.map((series) => ({ name: legend(panel.targets[i], series.metric), ...series }))
  );
}

function Lines({ panel, width, height, range }) {
  const frames = seriesOf(panel).map((series, index) => {
    const times = series.values.map(([at]) => at * 1000);
    const values = series.values.map(([, value]) => (value === 'NaN' ? null : Number(value)));
    const field = { name: series.name, type: FieldType.number, values };
    return {
      length: times.length,
      refId: `${index}`,
      fields: [
        { name: 'Time', type: FieldType.time, values: times, config: {} },
        configured(panel, field, series.name, index),
      ],
    };
  });
  const { options } = panel;
  return (
    <TimeSeries
      frames={frames.map((frame) => toDataFrame(frame))}
      structureRev={1}
      width={width}
      height={height}
      timeRange={range}
      timeZone="utc"
      legend={{ showLegend: true, displayMode: 'list', placement: 'bottom', calcs: [] }}
      options={options}
    />
  );
}

// One value of each series, as the panels for figures and bars have it.
function valuesOf(panel) {
  return seriesOf(panel).map((series, index) => {
    const field = { name: series.name, type: FieldType.number, values: [Number(series.value[1])] };
    const ready = configured(panel, field, series.name, index);
    return { ready, value: { ...ready.display(Number(series.value[1])), title: series.name } };
  });
}

// In the mode "auto" Grafana adds the names where there are several figures.
function textMode(panel, values) {
  const asked = panel.options?.textMode ?? BigValueTextMode.Auto;
  if (asked !== BigValueTextMode.Auto) return asked;
  return values.length > 1 ? BigValueTextMode.ValueAndName : BigValueTextMode.Value;
}

function Figure({ panel, width, height }) {
  const values = valuesOf(panel);
  if (!values.length) return <div>{panel.fieldConfig.defaults.noValue}</div>;
  return (
    <VizRepeater
      getValues={() => values}
      source={panel}
      width={width}
      height={height}
      orientation="vertical"
      renderCounter={0}
      renderValue={({ value, width, height }) => (
        <BigValue
          value={value.value}
          width={width}
          height={height}
          theme={theme}
          colorMode={BigValueColorMode.Value}
          graphMode={BigValueGraphMode.None}
          text={panel.options?.text}
          textMode={textMode(panel, values)}
        />
      )}
    />
  );
}

function Bars({ panel, width, height }) {
  const values = valuesOf(panel).filter(({ value }) => Number.isFinite(value.numeric));
  const most = Math.max(...values.map(({ value }) => value.numeric), 0);
  // Drawn in a font that is wider than Grafana's own, by which the room for names is measured.
  const longest =
    values.reduce((a, { value }) => (value.title.length > a.length ? value.title : a), '') + 'mmm';
  return (
    <VizRepeater
      getValues={() => values}
      source={panel}
      width={width}
      height={height}
      orientation="horizontal"
      renderCounter={0}
      minVizHeight={panel.options.minVizHeight}
      maxVizHeight={panel.options.maxVizHeight}
      itemSpacing={8}
      renderValue={({ value: { ready, value }, width, height }) => (
        <BarGauge
          value={value}
          field={{ ...ready.config, min: 0, max: ready.config.max ?? most }}
          display={ready.display}
          width={width}
          height={height}
          orientation="horizontal"
          displayMode="basic"
          theme={theme}
          itemSpacing={8}
          text={{ titleSize: 13, valueSize: 14 }}
          alignmentFactors={{ title: longest, text: values.reduce((a, v) => (v.value.text.length > a.length ? v.value.text : a), '') }}
          showUnfilled
        />
      )}
    />
  );
}

function Listing({ panel, width, height }) {
  const frame = panel.merged;
  return (
    <Table
      data={frame}
      width={width}
      height={height}
      columnMinWidth={panel.fieldConfig.defaults.custom?.minWidth ?? 150}
      initialSortBy={panel.options.sortBy}
      fieldConfig={panel.fieldConfig}
    />
  );
}

// The panel's own transformations over one table for each query, as Prometheus' data source gives it.
async function merged(panel) {
  const tables = panel.answers.map((answer, i) => {
    const labels = [...new Set(answer.flatMap((series) => Object.keys(series.metric)))];
    const refId = panel.targets[i].refId;
    return toDataFrame({
      refId,
      fields: [
        { name: 'Time', type: FieldType.time, values: answer.map((s) => s.value[0] * 1000) },
        ...labels.map((label) => ({
          name: label,
          type: FieldType.string,
          values: answer.map((s) => s.metric[label] ?? ''),
        })),
        {
          name: `Value #${refId}`,
          type: FieldType.number,
          values: answer.map((s) => Number(s.value[1])),
        },
      ],
    });
  });
  const [frame] = await firstValueFrom(transformDataFrame(panel.transformations, tables));
  const named = (field) => field.config.displayName ?? field.name;
  return {
    ...frame,
    fields: frame.fields.map((field, i) =>
      configured(panel, { ...field }, named(field), i)
    ),
  };
}

const KINDS = { timeseries: Lines, stat: Figure, bargauge: Bars, table: Listing };

function Board({ board, range }) {
  const across = (WIDTH - 24 * GAP) / 24;
  const rows = Math.max(...board.panels.map((p) => p.gridPos.y + p.gridPos.h));
  return (
    <div style={{ width: WIDTH, height: rows * (ROW + GAP) + 60, position: 'relative', background: theme.colors.background.canvas }}>
      <h3 style={{ padding: '14px 8px', margin: 0 }}>{board.title}</h3>
      {board.panels.map((panel, i) => {
        const { x, y, w, h } = panel.gridPos;
        const Kind = KINDS[panel.type];
        const width = w * (across + GAP) - GAP;
        const height = h * (ROW + GAP) - GAP;
        return (
          <div key={i} style={{ position: 'absolute', left: x * (across + GAP) + GAP / 2, top: 52 + y * (ROW + GAP) }}>
            <PanelChrome title={panel.title} description={panel.description} width={width} height={height}>
              {(inner, outer) => <Kind panel={panel} width={inner} height={outer} range={range} />}
            </PanelChrome>
          </div>
        );
      })}
    </div>
  );
}

window.draw = async (board, from, to) => {
  await initPluginTranslations('grafana');
  standardTransformersRegistry.setInit(() =>
    [standardTransformers.mergeTransformer, standardTransformers.organizeFieldsTransformer].map(
      (transformation) => ({
        id: transformation.id,
        name: transformation.name,
        transformation: async () => transformation,
      })
    )
  );
  for (const panel of board.panels) {
    if (panel.type === 'table') panel.merged = await merged(panel);
  }
  const range = { from: dateTime(from), to: dateTime(to), raw: { from: dateTime(from), to: dateTime(to) } };
  createRoot(document.getElementById('root')).render(
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <Board board={board} range={range} />
    </ThemeContext.Provider>
  );
};
