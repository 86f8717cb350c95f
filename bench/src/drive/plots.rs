//! Plots as SVG, written by hand: latency as load rises, CPU by burst size, memory by connections.
//!
//! Must not live here: figures. Invariant: a plot shows the middle of the runs with lowest and highest, and is legible on
//! a light page and on a dark one: every colour has a value for each.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use bench::Fail;
use bench::stats::Spread;

use super::servers::OURS;
use super::table::Sheet;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 420.0;
/// Left, top, right and bottom of the area that is drawn in; names of the lines stand right of it.
const AREA: (f64, f64, f64, f64) = (70.0, 52.0, 620.0, 366.0);
/// Between the baselines of two names.
const LINE_HEIGHT: f64 = 15.0;
/// Colours of lines, on light and on dark ground; ours is the first, and drawn thicker.
const COLOURS: [(&str, &str); 6] = [
    ("#0b57d0", "#8ab4f8"),
    ("#5f6368", "#9aa0a6"),
    ("#b3261e", "#f28b82"),
    ("#137333", "#81c995"),
    ("#8430ce", "#c58af9"),
    ("#b06000", "#fcad70"),
];

/// One plot.
struct Plot {
    file: &'static str,
    workload: &'static str,
    key: &'static str,
    title: &'static str,
    x: &'static str,
    y: &'static str,
}

const PLOTS: [Plot; 4] = [
    Plot {
        file: "ladder.svg",
        workload: "ladder",
        key: "last_p99_ms",
        title: "How long the last of 1,000 receivers waits, as posts come faster",
        x: "posts a second, one by one",
        y: "p99, ms",
    },
    Plot {
        file: "bursts.svg",
        workload: "bursts",
        key: "cpu_us_per_delivery",
        title: "What a delivery costs the server, as bursts grow",
        x: "posts in a burst, 10 bursts a second to 1,000",
        y: "CPU, µs",
    },
    Plot {
        file: "bursts-wait.svg",
        workload: "bursts",
        key: "last_p99_ms",
        title: "How long the last of 1,000 receivers waits, as bursts grow",
        x: "posts in a burst, 10 bursts a second to 1,000",
        y: "p99, ms",
    },
    Plot {
        file: "memory.svg",
        workload: "memory",
        key: "rss_mib",
        title: "Memory of the server, by idle connections",
        x: "connections",
        y: "RSS, MiB",
    },
];

/// A line: whose it is, and its points.
type Line = (String, Vec<(f64, Spread)>);

/// Draws what the sheets have the figures for. Returns the files.
///
/// # Errors
/// A file cannot be written.
pub(crate) fn draw(sheets: &[Sheet], folder: &Path) -> Result<Vec<PathBuf>, Fail> {
    let mut files = Vec::new();
    for plot in &PLOTS {
        let lines = lines(sheets, plot);
        if lines.is_empty() {
            continue;
        }
        std::fs::create_dir_all(folder)?;
        let file = folder.join(plot.file);
        std::fs::write(&file, svg(plot, &lines))?;
        files.push(file);
    }
    Ok(files)
}

fn lines(sheets: &[Sheet], plot: &Plot) -> Vec<Line> {
    let sheets: Vec<_> = sheets.iter().filter(|sheet| sheet.workload == plot.workload).collect();
    let names = sheets.first().map(|sheet| sheet.rows.iter().map(|(name, _)| name.clone())).into_iter().flatten();
    let points = |name: &str| -> Vec<(f64, Spread)> {
        let point = |sheet: &&Sheet| Some((sheet.x?, sheet.spread(name, plot.key)?));
        sheets.iter().filter_map(point).filter(|(x, spread)| *x > 0.0 && spread.lowest > 0.0).collect()
    };
    names.map(|name| (name.clone(), points(&name))).filter(|(_, points)| !points.is_empty()).collect()
}

/// An axis on which equal factors are equal lengths.
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// One that holds all values, with a little room.
    fn holding(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let (low, high) = values.fold((f64::MAX, f64::MIN_POSITIVE), |(low, high), v| (v.min(low), v.max(high)));
        Self { low: low / 1.15, high: high * 1.15, from, to }
    }

    fn place(&self, value: f64) -> f64 {
        let part = (value / self.low).ln() / (self.high / self.low).ln();
        self.from + part * (self.to - self.from)
    }

    /// Round values to mark: 1, 2 and 5 of each power of ten; where those are many, only 1.
    fn marks(&self) -> Vec<f64> {
        let powers = self.low.log10().floor() as i32..=self.high.log10().ceil() as i32;
        let steps: &[f64] = if self.high / self.low > 5_000.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let all = powers.flat_map(|power| steps.iter().map(move |step| step * 10_f64.powi(power)));
        all.filter(|mark| (self.low..=self.high).contains(mark)).collect()
    }
}

fn shown(value: f64) -> String {
    // As many digits as the mark has: 0.2, 5, 1000.
    let digits = if value < 1.0 { (-value.log10()).ceil() as usize } else { 0 };
    format!("{value:.digits$}")
}

fn svg(plot: &Plot, lines: &[Line]) -> String {
    let (left, top, right, bottom) = AREA;
    let points = || lines.iter().flat_map(|(_, points)| points);
    let x = Axis::holding(points().map(|(x, _)| *x), left, right);
    let y = Axis::holding(points().flat_map(|(_, y)| [y.lowest, y.highest]), bottom, top);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\">\n<title>{}</title>\n<style>\n{}</style>\n",
        plot.title,
        style()
    );
    // Ground of its own: a page that shows it decides nothing.
    let _ = writeln!(svg, "<rect class=\"ground\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"6\"/>");
    let _ = writeln!(svg, "<text x=\"{left}\" y=\"26\" class=\"title\">{}</text>", plot.title);
    let _ = writeln!(svg, "<text x=\"12\" y=\"{:.1}\">{}</text>", top - 10.0, plot.y);
    let middle = (left + right) / 2.0;
    let _ = writeln!(svg, "<text x=\"{middle:.1}\" y=\"{:.1}\" class=\"middle\">{}</text>", bottom + 40.0, plot.x);
    for mark in y.marks() {
        let at = y.place(mark);
        let _ = writeln!(svg, "<path class=\"grid\" d=\"M{left} {at:.1}H{right}\"/>");
        let _ =
            writeln!(svg, "<text x=\"{:.1}\" y=\"{:.1}\" class=\"end\">{}</text>", left - 8.0, at + 4.0, shown(mark));
    }
    for mark in x.marks() {
        let at = x.place(mark);
        let _ = writeln!(svg, "<path class=\"grid\" d=\"M{at:.1} {top}V{bottom}\"/>");
        let below = bottom + 18.0;
        let _ = writeln!(svg, "<text x=\"{at:.1}\" y=\"{below:.1}\" class=\"middle\">{}</text>", shown(mark));
    }
    for (place, (name, points)) in lines.iter().enumerate() {
        let class = format!("line c{}{}", place % COLOURS.len(), if name == OURS { " ours" } else { "" });
        let mut path = String::new();
        for (n, (at, spread)) in points.iter().enumerate() {
            let (at, middle) = (x.place(*at), y.place(spread.median));
            let _ = write!(path, "{}{at:.1} {middle:.1}", if n == 0 { "M" } else { "L" });
            let _ = writeln!(svg, "<circle class=\"dot c{}\" cx=\"{at:.1}\" cy=\"{middle:.1}\" r=\"3\"/>", place % 6);
            if spread.runs > 1 {
                let (low, high) = (y.place(spread.lowest), y.place(spread.highest));
                let _ = writeln!(svg, "<path class=\"line c{} ends\" d=\"M{at:.1} {low:.1}V{high:.1}\"/>", place % 6);
            }
        }
        let _ = writeln!(svg, "<path class=\"{class}\" d=\"{path}\"/>");
    }
    for (place, at) in names(lines, &y) {
        let (name, points) = &lines[place];
        let beside = points.last().map_or(right, |(last, _)| x.place(*last));
        let _ =
            writeln!(svg, "<text x=\"{:.1}\" y=\"{at:.1}\" class=\"name c{}\">{name}</text>", beside + 8.0, place % 6);
    }
    svg.push_str("</svg>\n");
    svg
}

/// Where each line's name stands: beside its end, and no two on each other.
fn names(lines: &[Line], y: &Axis) -> Vec<(usize, f64)> {
    let end = |points: &[(f64, Spread)]| points.last().map_or(0.0, |(_, spread)| y.place(spread.median) + 4.0);
    let mut ends: Vec<(usize, f64)> = lines.iter().enumerate().map(|(n, (_, points))| (n, end(points))).collect();
    ends.sort_by(|left, right| left.1.total_cmp(&right.1));
    for n in 1..ends.len() {
        ends[n].1 = ends[n].1.max(ends[n - 1].1 + LINE_HEIGHT);
    }
    ends
}

fn style() -> String {
    let mut css = String::from(
        ".ground{fill:#fff}text{fill:#3c4043}.title{font-size:15px;font-weight:600}.middle{text-anchor:middle}\
         .end{text-anchor:end}.name{font-weight:600}.grid{stroke:#dadce0;fill:none}.line{fill:none;stroke-width:1.6}\
         .ours{stroke-width:3}.ends{stroke-width:1;opacity:.6}\n",
    );
    let colours = |pick: fn(&(&'static str, &'static str)) -> &'static str| {
        let all = COLOURS.iter().map(pick).enumerate();
        all.map(|(n, c)| format!(".line.c{n}{{stroke:{c}}}.name.c{n},.dot.c{n}{{fill:{c}}}")).collect::<String>()
    };
    let (light, dark) = (colours(|pair| pair.0), colours(|pair| pair.1));
    let ground = ".ground{fill:#202124}text{fill:#e8eaed}.grid{stroke:#3c4043}";
    let _ = writeln!(css, "{light}\n@media(prefers-color-scheme:dark){{{ground}{dark}}}");
    css
}

#[cfg(test)]
mod tests {
    use super::super::table::{Row, Run};
    use super::super::workloads::Telling;
    use super::*;

    fn sheet(x: f64, figures: &[(&str, f64)]) -> Sheet {
        let row = |value: f64| {
            let run = |run| Run { run, figures: [("last_p99_ms", value * (1.0 + run as f64))].into(), outcome: None };
            Row { runs: (0..3).map(run).collect(), failures: Vec::new() }
        };
        Sheet {
            workload: "ladder".into(),
            title: String::new(),
            telling: Telling::Delivery,
            x: Some(x),
            may_break: true,
            rows: figures.iter().map(|(name, value)| ((*name).to_owned(), row(*value))).collect(),
        }
    }

    #[test]
    fn equal_factors_are_equal_lengths_and_marks_are_round() {
        let axis = Axis { low: 1.0, high: 100.0, from: 0.0, to: 200.0 };
        assert_eq!((axis.place(1.0), axis.place(10.0).round(), axis.place(100.0).round()), (0.0, 100.0, 200.0));
        assert_eq!(
            axis.marks().iter().map(|mark| shown(*mark)).collect::<Vec<_>>(),
            ["1", "2", "5", "10", "20", "50", "100"]
        );
        assert_eq!((shown(0.2), shown(0.05), shown(2_000.0)), ("0.2".into(), "0.05".into(), "2000".into()));
    }

    #[test]
    fn a_line_ends_where_its_server_broke_and_no_names_lie_on_each_other() {
        let sheets = [sheet(20.0, &[(OURS, 5.0), ("bun", 5.01)]), sheet(40.0, &[(OURS, 9.0)])];
        let lines = lines(&sheets, &PLOTS[0]);
        assert_eq!(lines.iter().map(|(_, points)| points.len()).collect::<Vec<_>>(), [2, 1]);
        let y = Axis::holding([1.0, 100.0].into_iter(), AREA.3, AREA.1);
        let at: Vec<f64> = names(&lines, &y).into_iter().map(|(_, at)| at).collect();
        assert!((at[1] - at[0]).abs() >= LINE_HEIGHT);
        let svg = svg(&PLOTS[0], &lines);
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n") && svg.contains("prefers-color-scheme:dark"));
        assert!(!svg.contains("NaN"), "{svg}");
    }
}
