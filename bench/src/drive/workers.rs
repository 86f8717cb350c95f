//! The processes of a load: started, given orders, asked what they found.
//!
//! Must not live here: what the orders are for. Invariant: a process is ended with the value that stands for it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{TryRecvError, sync_channel};

use bench::Fail;
use bench::load::{Load, Phase, Share};
use bench::result::PhaseResult;
use bench::wire::Target;
use serde::{Deserialize, Serialize};

/// Connections of one process: well below the files it may have open.
const CLIENTS_PER_PROCESS: usize = 10_000;

/// Orders that may wait; the next is given when the one before is answered.
const ORDERS: usize = 4;

/// What a process is told to do.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Order {
    /// The first order.
    Prepare {
        share: Share,
        url: String,
    },
    SignIn,
    Connect,
    Enter,
    Settle,
    Phase(Phase),
    /// To the server that was started again, at this address.
    ComeBack(String),
}

/// What it answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Done,
    Found(Box<PhaseResult>),
    Failed(String),
}

/// Takes orders until standard input ends.
///
/// # Errors
/// What this machine says; everything else is answered.
pub(crate) fn serve() -> Result<(), Fail> {
    let mut load: Option<Load> = None;
    let (lines, orders) = sync_channel(ORDERS);
    // Ends with standard input, or with this process.
    std::thread::spawn(move || std::io::stdin().lines().map_while(Result::ok).try_for_each(|line| lines.send(line)));
    loop {
        let line = match (orders.try_recv(), &mut load) {
            (Ok(line), _) => line,
            (Err(TryRecvError::Disconnected), _) => return Ok(()),
            // Who waits for an order must not be taken for dead.
            (Err(TryRecvError::Empty), Some(load)) => {
                load.wait()?;
                continue;
            }
            (Err(TryRecvError::Empty), None) => match orders.recv() {
                Ok(line) => line,
                Err(_) => return Ok(()),
            },
        };
        let order = serde_json::from_str(&line).map_err(|error| Fail::Usage(error.to_string()))?;
        let answer = match obey(&mut load, order) {
            Ok(None) => Answer::Done,
            Ok(Some(found)) => Answer::Found(Box::new(found)),
            Err(fail) => Answer::Failed(fail.to_string()),
        };
        let text = serde_json::to_string(&answer).map_err(|error| Fail::Local(error.to_string()))?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "{text}")?;
        out.flush()?;
    }
}

fn obey(load: &mut Option<Load>, order: Order) -> Result<Option<PhaseResult>, Fail> {
    if let Order::Prepare { share, url } = order {
        *load = Some(Load::new(share, Target::at(&url).map_err(Fail::Usage)?)?);
        return Ok(None);
    }
    let load = load.as_mut().ok_or_else(|| Fail::Usage("the first order prepares".into()))?;
    match order {
        Order::Prepare { .. } => {}
        Order::SignIn => load.sign_in()?,
        Order::Connect => load.connect()?,
        Order::Enter => load.enter()?,
        Order::Settle => load.settle()?,
        Order::Phase(phase) => return load.phase(&phase).map(Some),
        Order::ComeBack(url) => return load.come_back(&url).map(Some),
    }
    Ok(None)
}

/// All processes of one load.
pub(crate) struct Workers {
    workers: Vec<Worker>,
}

struct Worker {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Already gone is as good as killed.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Workers {
    /// Starts as many as the clients of `whole` need; its `first` and `count` are worked out here.
    ///
    /// # Errors
    /// What this machine says.
    pub(crate) fn start(whole: &Share, url: &str) -> Result<Self, Fail> {
        let processes = whole.clients.div_ceil(CLIENTS_PER_PROCESS).max(1);
        let mut workers = Vec::new();
        for n in 0..processes {
            let (first, end) = (n * whole.clients / processes, (n + 1) * whole.clients / processes);
            let mut child = Command::new(std::env::current_exe()?)
                .arg("load")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?;
            let (orders, answers) = (child.stdin.take(), child.stdout.take());
            let (Some(orders), Some(answers)) = (orders, answers) else {
                return Err(Fail::Local("a load process has no pipes".into()));
            };
            let mut worker = Worker { child, orders, answers: BufReader::new(answers) };
            let share = Share { first, count: end - first, ..whole.clone() };
            worker.order(&Order::Prepare { share, url: url.to_owned() })?;
            worker.answer()?;
            workers.push(worker);
        }
        Ok(Self { workers })
    }

    /// Signs everybody in.
    ///
    /// # Errors
    /// What the server answered.
    pub(crate) fn sign_in(&mut self) -> Result<(), Fail> {
        self.one_by_one(&Order::SignIn)
    }

    /// Opens all connections.
    ///
    /// # Errors
    /// What the server answered.
    pub(crate) fn connect(&mut self) -> Result<(), Fail> {
        self.one_by_one(&Order::Connect)
    }

    /// Has everybody enter their rooms, and waits until all is quiet.
    ///
    /// # Errors
    /// What the server answered.
    pub(crate) fn enter(&mut self) -> Result<(), Fail> {
        self.one_by_one(&Order::Enter)
    }

    /// Waits until nothing but heartbeats comes.
    ///
    /// # Errors
    /// That it does not fall quiet.
    pub(crate) fn settle(&mut self) -> Result<(), Fail> {
        self.all(&Order::Settle).map(drop)
    }

    /// Runs a phase in all of them.
    ///
    /// # Errors
    /// What one of them says.
    pub(crate) fn phase(&mut self, phase: Phase) -> Result<Vec<PhaseResult>, Fail> {
        self.all(&Order::Phase(phase))
    }

    /// Has everybody come back to a server that was started again.
    ///
    /// # Errors
    /// What one of them says.
    pub(crate) fn come_back(&mut self, url: &str) -> Result<Vec<PhaseResult>, Fail> {
        self.all(&Order::ComeBack(url.to_owned()))
    }

    /// A step that asks the server for something goes through the processes in turn: the crush is another workload.
    fn one_by_one(&mut self, order: &Order) -> Result<(), Fail> {
        for at in 0..self.workers.len() {
            self.workers[at].order(order)?;
            self.workers[at].answer()?;
        }
        Ok(())
    }

    fn all(&mut self, order: &Order) -> Result<Vec<PhaseResult>, Fail> {
        self.workers.iter_mut().try_for_each(|worker| worker.order(order))?;
        let found: Result<Vec<_>, Fail> = self.workers.iter_mut().map(Worker::answer).collect();
        Ok(found?.into_iter().flatten().collect())
    }
}

impl Worker {
    fn order(&mut self, order: &Order) -> Result<(), Fail> {
        let text = serde_json::to_string(order).map_err(|error| Fail::Local(error.to_string()))?;
        writeln!(self.orders, "{text}")?;
        self.orders.flush()?;
        Ok(())
    }

    fn answer(&mut self) -> Result<Option<PhaseResult>, Fail> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        match serde_json::from_str(&line) {
            Ok(Answer::Done) => Ok(None),
            Ok(Answer::Found(found)) => Ok(Some(*found)),
            Ok(Answer::Failed(words)) => Err(Fail::Refused(words)),
            Err(_) => Err(Fail::Local("a load process ended".into())),
        }
    }
}
