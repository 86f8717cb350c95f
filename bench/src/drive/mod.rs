//! A sitting: every workload on every server, run beside run.
//!
//! Lives here: the order of things, and what is kept of them. Must not live here: connections (workers.rs), what is
//! measured (workloads.rs), layout (table.rs). Invariant: within a run the servers follow each other at once, and another
//! one begins each time.

mod count;
mod figures;
mod plots;
mod servers;
mod table;
mod workers;
mod workloads;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use bench::board::Seating;
use bench::clock::{now_ns, random};
use bench::load::{Phase, Share};
use bench::result::Outcome;
use bench::{Fail, process};

pub(crate) use self::count::run as count;
use self::figures::Readings;
use self::servers::{Contestant, Cores, OURS, Server};
use self::table::{Row, Run, Sheet};
use self::workers::Workers;
pub(crate) use self::workloads::Workload;
use self::workloads::{Act, SIZE, Scene, Step, Telling};
use crate::RunArgs;

/// How long before the first post is due, in nanoseconds: the order must have reached every process.
const LEAD_NS: u64 = 100_000_000;
/// The row of the store alone.
const RAW: &str = "raw SQLite";
/// Where the last receivers wait so long, p99 in milliseconds, more load tells nothing more.
const BROKEN_MS: f64 = 1_000.0;
/// Most runs and longest time of one phase: a sitting ends.
const RUNS_MOST: usize = 100;
const SECONDS_MOST: f64 = 600.0;

/// One process of a load.
///
/// # Errors
/// What this machine says.
pub(crate) fn worker() -> Result<bool, Fail> {
    workers::serve().map(|()| true)
}

/// Runs what is asked for. Returns whether everything of ours came once and in order.
///
/// # Errors
/// Something makes no sense, or could not be written.
pub(crate) fn run(args: &RunArgs) -> Result<bool, Fail> {
    let seconds_fit = args.seconds > 0.0 && args.seconds <= SECONDS_MOST;
    if !seconds_fit || !(1..=RUNS_MOST).contains(&args.runs) {
        return Err(Fail::Usage(format!("--runs must lie in 1–{RUNS_MOST} and --seconds in 0–{SECONDS_MOST}")));
    }
    let mut contestants = vec![Contestant::ours(&args.server)];
    for peer in &args.peers {
        contestants.push(Contestant::peer(peer)?);
    }
    let cores = Cores::split(process::cores(), args.server_cores)?;
    process::keep_to(&cores.load)?;
    process::raise_open_files();
    std::fs::create_dir_all(&args.folder)?;
    let sitting = Sitting { args, contestants, cores };
    let chosen = if args.workloads.is_empty() { Workload::usual() } else { args.workloads.clone() };
    println!("{}", sitting.conditions());
    let mut sheets = Vec::new();
    for workload in chosen {
        for scene in workload.scenes() {
            let found = sitting.play(workload, &scene);
            found.iter().filter(|sheet| sheet.has_news()).for_each(|sheet| println!("\n{}", sheet.text()));
            sheets.extend(found);
            // Written as it grows: a sitting is long.
            if let Some(file) = &args.json {
                sitting.write_json(file, &sheets)?;
            }
        }
    }
    if let Some(folder) = &args.plots {
        for file in plots::draw(&sheets, folder)? {
            println!("drew {}", file.display());
        }
    }
    let ours =
        sheets.iter().filter(|sheet| !sheet.may_break).flat_map(|sheet| &sheet.rows).filter(|(name, _)| name == OURS);
    let is_clean = |row: &Row| {
        row.failures.is_empty() && row.runs.iter().all(|run| run.outcome.as_ref().is_none_or(Outcome::is_clean))
    };
    Ok(ours.fold(true, |all, (_, row)| all && is_clean(row)))
}

struct Sitting<'a> {
    args: &'a RunArgs,
    contestants: Vec<Contestant>,
    cores: Cores,
}

impl Sitting<'_> {
    /// What must be known to read the tables.
    fn conditions(&self) -> String {
        let (runs, seconds) = (self.args.runs, self.args.seconds);
        let cores = match self.args.server_cores {
            0 => "server and load share all cores".to_owned(),
            _ => format!("server on core {:?}, load on {:?}", self.cores.server, self.cores.load),
        };
        format!(
            "{runs} runs of {seconds} s each, the servers in turn; {cores}. Middle (lowest–highest).\n\
             {SIZE} bytes of text, no compression, one loopback. Ours stores and syncs every post before it delivers it; the \
             others store nothing.\nEach delivery counts from the moment its post was due; \"last\" is the last receiver. \
             \"wrong\" counts what was lost, repeated, skipped, not understood or cut off."
        )
    }

    fn write_json(&self, file: &Path, sheets: &[Sheet]) -> Result<(), Fail> {
        let json = serde_json::json!({
            "conditions": self.conditions(),
            "runs": self.args.runs,
            "seconds": self.args.seconds,
            "server_cores": self.cores.server,
            "load_cores": self.cores.load,
            "sheets": sheets.iter().map(Sheet::json).collect::<Vec<_>>(),
        });
        let text = serde_json::to_string_pretty(&json).map_err(|error| Fail::Local(error.to_string()))?;
        std::fs::write(file, text).map_err(|error| Fail::Local(format!("{}: {error}", file.display())))
    }

    /// Plays a scene on every server, all runs of it.
    fn play(&self, workload: Workload, scene: &Scene) -> Vec<Sheet> {
        let contestants: Vec<_> = self.contestants.iter().filter(|one| one.is_ours() || scene.peers).collect();
        let mut names: Vec<String> = contestants.iter().map(|one| one.name.clone()).collect();
        let raw = self.args.raw.as_deref().zip(scene.raw_batch);
        names.extend(raw.map(|_| RAW.to_owned()));
        let told = scene.steps.iter().filter(|step| step.telling != Telling::Nothing);
        let sheet = |step: &Step| Sheet {
            workload: workload.name(),
            title: format!("{}{}", scene.title, step.label.as_ref().map_or("", |(label, _)| label)),
            telling: step.telling,
            x: step.label.as_ref().map(|(_, x)| *x),
            may_break: scene.until_broken,
            rows: names.iter().map(|name| (name.clone(), Row::default())).collect(),
        };
        let mut sheets: Vec<Sheet> = told.map(sheet).collect();
        for run in 0..self.args.runs {
            for turn in 0..names.len() {
                let at = (turn + run) % names.len();
                eprintln!("  {}, {}, run {}: {}", workload.name(), scene.title, run + 1, names[at]);
                let found = match (contestants.get(at), raw) {
                    (Some(contestant), _) => self.measure(contestant, scene),
                    (None, Some((program, batch))) => self.measure_raw(program, batch, scene),
                    (None, None) => continue,
                };
                match found {
                    Ok(found) => {
                        for (sheet, (figures, outcome)) in sheets.iter_mut().zip(found) {
                            sheet.rows[at].1.runs.push(Run { run, figures, outcome });
                        }
                    }
                    Err(fail) => {
                        for sheet in &mut sheets {
                            sheet.rows[at].1.failures.push(format!("run {}: {fail}", run + 1));
                        }
                    }
                }
            }
        }
        sheets
    }

    /// Plays a scene once.
    fn measure(&self, contestant: &Contestant, scene: &Scene) -> Result<Vec<Found>, Fail> {
        let data = match scene.filled {
            Some(posts) => self.filled(posts)?,
            None => self.args.folder.join("data"),
        };
        if scene.filled.is_none() {
            servers::empty(&data)?;
        }
        let start = || Server::start(contestant, &self.args.folder, &data, &self.cores);
        let mut server = start()?;
        let whole = Share {
            kind: contestant.kind,
            run: format!("{:08x}", u32::from_le_bytes(random())),
            clients: scene.clients,
            first: 0,
            count: 0,
            rooms: scene.rooms,
            senders: scene.senders,
            follow: scene.follow,
            room: "bench".into(),
            more_rooms: scene.more_rooms,
        };
        let seating = Seating::of(scene.clients, scene.rooms, scene.senders);
        let mut workers = Workers::start(&whole, &server.url)?;
        workers.sign_in()?;
        let (at_rest, slab) = (server.reading()?, process::slab());
        workers.connect()?;
        workers.settle()?;
        let mut found = Vec::new();
        let mut last_p99_before = None;
        for step in &scene.steps {
            let (mut before, overflows) = (server.reading()?, process::listen_overflows());
            let seconds = self.args.seconds * step.time;
            let results = match step.act {
                Act::Enter => {
                    workers.enter()?;
                    workers.settle()?;
                    continue;
                }
                Act::ComeBack => {
                    drop(server);
                    server = start()?;
                    before.cpu = Duration::ZERO;
                    workers.come_back(&server.url)?
                }
                Act::Hold => workers.phase(Phase::Hold { seconds })?,
                Act::Missed { rate, seconds } => workers.phase(on_the_clock(rate, 1, 0, seconds))?,
                Act::Open { rate, burst, deaf } => workers.phase(on_the_clock(rate, burst, deaf, seconds))?,
                Act::Closed => workers.phase(Phase::Closed { size: SIZE, seconds })?,
                Act::Ask(question) => {
                    let posts = scene.filled.unwrap_or_default();
                    workers.phase(Phase::Ask { question, posts, seconds })?
                }
            };
            let after = server.reading()?;
            let outcome = Outcome::of(&results, seating, seconds);
            if matches!(step.act, Act::Missed { .. }) && outcome.acked < outcome.posts {
                let (acked, posts, refused) = (outcome.acked, outcome.posts, &outcome.refused);
                return Err(Fail::Refused(format!("{acked} of {posts} posts to be missed were stored: {refused:?}")));
            }
            if step.telling == Telling::Nothing {
                continue;
            }
            let slab = slab.zip(process::slab());
            let overflows = process::listen_overflows().zip(overflows).map(|(now, then)| now - then);
            let connections = scene.clients;
            let readings = Readings { at_rest, before, after, slab, overflows, last_p99_before, connections };
            let figures = figures::of(step.telling, &outcome, &readings);
            last_p99_before = figures.get("last_p99_ms").copied();
            let is_broken = outcome.lost > 0 || last_p99_before.is_none_or(|ms| ms > BROKEN_MS);
            found.push((figures, Some(outcome)));
            if scene.until_broken && is_broken {
                break;
            }
        }
        Ok(found)
    }

    /// The folder of a database with so many posts in the room; filled once, and kept for the next time.
    fn filled(&self, posts: u64) -> Result<PathBuf, Fail> {
        let folder = self.args.folder.join(format!("filled-{posts}"));
        if folder.is_dir() {
            return Ok(folder);
        }
        let program = self.args.fill.as_ref().ok_or_else(|| Fail::Usage("--fill is missing".into()))?;
        eprintln!("  filling a room with {posts} posts");
        let aside = self.args.folder.join("filling");
        servers::empty(&aside)?;
        let status = Command::new(program).arg(posts.to_string()).arg(&aside).stdout(Stdio::null()).status()?;
        if !status.success() {
            return Err(Fail::Local(format!("{} failed ({status})", program.display())));
        }
        std::fs::rename(&aside, &folder)?;
        Ok(folder)
    }

    /// Measures the store alone: batches of one size, straight into the tables.
    fn measure_raw(&self, program: &Path, batch: usize, scene: &Scene) -> Result<Vec<Found>, Fail> {
        let time = scene.steps.last().map_or(1.0, |step| step.time) * self.args.seconds;
        let folder = self.args.folder.join("data");
        servers::empty(&folder)?;
        let mut command = Command::new(program);
        command.args([batch.to_string(), time.to_string()]).arg(&folder);
        process::keep_to(&self.cores.server)?;
        let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
        process::keep_to(&self.cores.load)?;
        let text = String::from_utf8_lossy(&output?.stdout).into_owned();
        let figure = text.split_whitespace().next().and_then(|figure| figure.parse().ok());
        let posts_per_s: f64 = figure.ok_or_else(|| Fail::Local(format!("{} said {text:?}", program.display())))?;
        Ok(vec![([("posts_per_s", posts_per_s)].into(), None)])
    }
}

fn on_the_clock(rate: f64, burst: usize, deaf: usize, seconds: f64) -> Phase {
    Phase::Open { start_ns: now_ns() + LEAD_NS, rate, burst, size: SIZE, seconds, deaf }
}

/// Figures of one phase, and where they come from.
type Found = (std::collections::BTreeMap<&'static str, f64>, Option<Outcome>);
