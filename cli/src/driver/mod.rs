//! Drives the same `Session` the browser does: one task that owns it, with a socket, timers, a disk and a command.
//!
//! Must not live here: what to show. Invariant: the session is touched by [`Driver::run`] alone; every output is done,
//! in order, before the next input is taken.
//!
//! ```text
//! command ──▶ Client ──commands──▶ ┌────────┐ ──orders──▶ socket task (one an attempt)
//!                ▲                 │ Driver │ ◀──events──
//!                └─────events───── └────────┘ ──changes──▶ disk (one fsync at a time)
//! ```

pub(crate) mod account;
pub(crate) mod clock;
pub(crate) mod files;
pub(crate) mod ids;
pub(crate) mod known_rooms;
pub(crate) mod outbox;
pub(crate) mod server_url;
pub(crate) mod sign_in;
mod socket;

use std::collections::{BTreeMap, VecDeque};
use std::future::pending;
use std::time::Duration;

use shared::close;
use shared::ids::AttemptId;
use shared::session::{Command, Input, Output, Persist, Session, SessionConfig, SessionEvent};
use shared::time::Timestamp;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use self::account::Account;
use self::clock::Clock;
use self::outbox::OutboxFile;
use self::server_url::ServerUrl;
use self::socket::{SocketEvent, SocketOrder};

/// Commands waiting for the driver. The command that gives more waits.
const COMMANDS: usize = 64;
/// Events waiting for the command. While they wait, nothing more is read from the socket.
const EVENTS: usize = 256;
/// What sockets have said and the driver has not heard yet.
const SOCKET_EVENTS: usize = 64;
/// How often the clock is compared with the one that does not count sleep.
const SLEEP_CHECK: Duration = Duration::from_secs(1);
/// How long goodbyes may take at the end.
const GOODBYE_LIMIT: Duration = Duration::from_secs(2);

/// What a command holds of a running session.
#[derive(Debug)]
pub(crate) struct Client {
    commands: mpsc::Sender<Command>,
    events: mpsc::Receiver<SessionEvent>,
    clock: Clock,
    task: JoinHandle<()>,
}

/// The driver's end was reached early: it panicked.
#[derive(Debug)]
pub(crate) struct DriverGone;

impl Client {
    /// Starts a session at rest. What the outbox holds is queued at once and sent when connected. Without an outbox
    /// everything works, and the session says that nothing is kept.
    pub(crate) fn start(server: ServerUrl, account: Account, outbox: Option<OutboxFile>) -> Self {
        let (commands, commands_in) = mpsc::channel(COMMANDS);
        let (events_out, events) = mpsc::channel(EVENTS);
        let (socket_events, sockets_in) = mpsc::channel(SOCKET_EVENTS);
        let config = SessionConfig {
            client: concat!("holdfast/", env!("CARGO_PKG_VERSION")).to_owned(),
            session: ids::session_id(),
            user: account.user.id,
            seed: ids::seed(),
            hidden: false,
            online: true,
        };
        let clock = Clock::start();
        let mut session = Session::new(config);
        let elsewhere = outbox.iter().flat_map(OutboxFile::elsewhere).map(|item| item.order);
        elsewhere.for_each(|order| session.begin_behind(order));
        let driver = Driver {
            session,
            clock,
            server,
            token: account.token,
            orders: BTreeMap::new(),
            sockets: JoinSet::new(),
            socket_events,
            changes: Vec::new(),
            disk: outbox.map_or(Disk::Absent, Disk::Idle),
            events: VecDeque::new(),
            is_command_alive: true,
        };
        let task = tokio::spawn(driver.run(commands_in, sockets_in, events_out));
        Self { commands, events, clock, task }
    }

    /// Waits for the next event.
    ///
    /// # Errors
    /// If the driver is gone. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<SessionEvent, DriverGone> {
        self.events.recv().await.ok_or(DriverGone)
    }

    /// Tells the session what is wanted.
    ///
    /// # Errors
    /// If the driver is gone.
    pub(crate) async fn command(&self, command: Command) -> Result<(), DriverGone> {
        self.commands.send(command).await.map_err(|_| DriverGone)
    }

    /// Returns the time the session's events speak of.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Says goodbye to the server and waits until the disk holds what it was given.
    pub(crate) async fn finish(self) {
        drop((self.commands, self.events));
        // It can only fail by a panic, which has been printed.
        let _ = self.task.await;
    }
}

/// The outbox file is here, or on its way to the disk with some changes.
enum Disk {
    Idle(OutboxFile),
    Busy {
        writing: JoinHandle<(OutboxFile, bool)>,
        serials: Vec<u64>,
    },
    /// There is no place to keep anything; the session is told so with every change.
    Absent,
}

struct Driver {
    session: Session,
    clock: Clock,
    server: ServerUrl,
    token: String,
    orders: BTreeMap<AttemptId, mpsc::Sender<SocketOrder>>,
    sockets: JoinSet<()>,
    socket_events: mpsc::Sender<(AttemptId, SocketEvent)>,
    /// Not yet on the way to the disk. Bounded by the outbox, whose items these are.
    changes: Vec<(u64, Persist)>,
    disk: Disk,
    /// Not yet taken by the command. No socket is heard meanwhile, and a command gives few: whoever gives many of them
    /// takes events in between. A command itself is always taken, for who waits to give one takes no event.
    events: VecDeque<SessionEvent>,
    is_command_alive: bool,
}

impl Driver {
    async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut sockets_in: mpsc::Receiver<(AttemptId, SocketEvent)>,
        events_out: mpsc::Sender<SessionEvent>,
    ) {
        if let Disk::Idle(outbox) = &self.disk {
            let items = outbox.items();
            if !items.is_empty() {
                self.handle(Input::Restored { items });
            }
        }
        while self.is_command_alive {
            self.start_writing();
            self.pass_on(&events_out);
            let wait = self.next_wait();
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.handle(Input::Command(command)),
                    None => self.is_command_alive = false,
                },
                Some((attempt, event)) = sockets_in.recv(), if self.events.is_empty() => self.hear(attempt, event),
                permit = events_out.reserve(), if !self.events.is_empty() => match (permit, self.events.pop_front()) {
                    (Ok(permit), Some(event)) => permit.send(event),
                    (Ok(_), None) => {}
                    (Err(_), _) => self.is_command_alive = false,
                },
                (serials, ok) = written(&mut self.disk) => self.report(serials, ok),
                Some(_) = self.sockets.join_next() => {}
                () = sleep(wait) => self.look_at_the_clock(),
            }
        }
        drop(events_out);
        self.finish(commands, sockets_in).await;
    }

    /// Gives the command its events as far as there is place for them.
    fn pass_on(&mut self, events_out: &mpsc::Sender<SessionEvent>) {
        while !self.events.is_empty()
            && let Ok(permit) = events_out.try_reserve()
            && let Some(event) = self.events.pop_front()
        {
            permit.send(event);
        }
    }

    fn handle(&mut self, input: Input) {
        let outputs = self.session.handle(input, self.clock.now());
        for output in outputs {
            match output {
                Output::Open { attempt } => {
                    let (orders, orders_in) = mpsc::channel(socket::WRITE_QUEUE);
                    self.orders.insert(attempt, orders);
                    let (server, token) = (self.server.clone(), self.token.clone());
                    self.sockets.spawn(socket::run(attempt, server, token, orders_in, self.socket_events.clone()));
                }
                Output::Send { attempt, text } => self.order(attempt, SocketOrder::Send(text)),
                Output::Close { attempt, code, reason } => {
                    self.order(attempt, SocketOrder::Close { code, reason });
                    self.orders.remove(&attempt);
                }
                Output::Persist { serial, change } => self.changes.push((serial, change)),
                Output::Event(event) => self.events.push_back(event),
            }
        }
    }

    /// Gives an order to a socket. One whose queue is full is stuck: letting go of it ends it as if it had broken.
    fn order(&mut self, attempt: AttemptId, order: SocketOrder) {
        if let Some(orders) = self.orders.get(&attempt)
            && orders.try_send(order).is_err()
        {
            self.orders.remove(&attempt);
        }
    }

    fn hear(&mut self, attempt: AttemptId, event: SocketEvent) {
        let input = match event {
            SocketEvent::Opened => Input::Opened { attempt },
            SocketEvent::Text(text) => Input::Received { attempt, text },
            SocketEvent::Closed { code, reason } => {
                self.orders.remove(&attempt);
                Input::Closed { attempt, code, reason }
            }
        };
        self.handle(input);
    }

    fn look_at_the_clock(&mut self) {
        if self.clock.has_slept() {
            self.handle(Input::Woke);
        }
        if self.session.next_deadline().is_some_and(|(at, _)| at <= self.clock.now()) {
            self.handle(Input::DeadlineReached);
        }
    }

    fn next_wait(&self) -> Duration {
        let until = |at: Timestamp| Duration::from_millis(at.since(self.clock.now()));
        self.session.next_deadline().map_or(SLEEP_CHECK, |(at, _)| until(at).min(SLEEP_CHECK))
    }

    /// Sends everything that waits for the disk on its way, if nothing is on its way yet: one `fsync` for all of it.
    fn start_writing(&mut self) {
        if self.changes.is_empty() {
            return;
        }
        match std::mem::replace(&mut self.disk, Disk::Absent) {
            Disk::Idle(mut outbox) => {
                let (serials, changes): (Vec<_>, Vec<_>) = self.changes.drain(..).unzip();
                let writing = tokio::task::spawn_blocking(move || {
                    let ok = outbox.write(changes).is_ok();
                    (outbox, ok)
                });
                self.disk = Disk::Busy { writing, serials };
            }
            busy @ Disk::Busy { .. } => self.disk = busy,
            Disk::Absent => {
                let serials = self.changes.drain(..).map(|(serial, _)| serial).collect();
                self.report(serials, false);
            }
        }
    }

    fn report(&mut self, serials: Vec<u64>, ok: bool) {
        for serial in serials {
            self.handle(Input::Persisted { serial, ok });
        }
    }

    /// Closes the socket, and leaves when the peer has heard it and the disk is done. What the session still says
    /// is dropped: nobody listens.
    async fn finish(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut sockets_in: mpsc::Receiver<(AttemptId, SocketEvent)>,
    ) {
        // What the command asked for before it left is still done.
        while let Ok(command) = commands.try_recv() {
            self.handle(Input::Command(command));
        }
        self.handle(Input::Command(Command::Stop));
        let attempts: Vec<_> = self.orders.keys().copied().collect();
        for attempt in attempts {
            self.order(attempt, SocketOrder::Close { code: close::NORMAL, reason: "done" });
        }
        self.orders.clear();
        let goodbyes = async {
            loop {
                tokio::select! {
                    joined = self.sockets.join_next() => if joined.is_none() { break },
                    Some(_) = sockets_in.recv() => {}
                }
            }
        };
        // A peer that does not answer is left behind.
        let _ = timeout(GOODBYE_LIMIT, goodbyes).await;
        loop {
            self.start_writing();
            if !matches!(self.disk, Disk::Busy { .. }) {
                break;
            }
            let (serials, ok) = written(&mut self.disk).await;
            self.report(serials, ok);
        }
    }
}

/// Waits for the write that is under way, for ever where none is. Cancel-safe.
async fn written(disk: &mut Disk) -> (Vec<u64>, bool) {
    let Disk::Busy { writing, serials } = disk else { return pending().await };
    let done = writing.await;
    let serials = std::mem::take(serials);
    match done {
        Ok((outbox, ok)) => {
            *disk = Disk::Idle(outbox);
            (serials, ok)
        }
        Err(_) => {
            *disk = Disk::Absent;
            (serials, false)
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::ids::{RoomId, UserId};
    use shared::model::Person;
    use shared::session::SendOp;

    use super::*;

    #[tokio::test]
    async fn who_gives_commands_is_not_kept_waiting_for_events_it_has_not_taken() {
        let server = ServerUrl::parse("http://127.0.0.1:9").unwrap();
        let user = Person { id: UserId::from_bytes([1; 16]), name: "Ada".into() };
        let mut client = Client::start(server, Account { user, token: String::new() }, None);
        let all = async {
            for _ in 0..5_000 {
                let (client_id, room) = (ids::client_id(), RoomId::from_bytes([2; 16]));
                let op = SendOp::Post { body: "x".into() };
                client.command(Command::Send { client_id, room, op, at: clock::wall() }).await.unwrap();
            }
            let mut answered = 0;
            while answered < 5_000 {
                let event = client.next().await.unwrap();
                answered += usize::from(matches!(event, SessionEvent::Queued(_) | SessionEvent::OutboxFull { .. }));
            }
        };
        timeout(Duration::from_secs(60), all).await.expect("it goes on");
        client.finish().await;
    }
}
