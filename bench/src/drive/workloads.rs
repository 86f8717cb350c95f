//! What is measured: the workloads by name, and the scenes each consists of.
//!
//! Must not live here: running them. Invariant: a scene is the same for every server, whatever the server is good at.

use bench::dialect::{PAGE, Question};
use clap::ValueEnum;

/// Bytes of text in a post.
pub(crate) const SIZE: usize = 200;

/// The workloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Workload {
    /// 1,000 in one room, 20 posts a second one by one
    Fanout,
    /// 1,000 in one room, bursts of 16, 320 posts a second
    Burst,
    /// 10,000 in one room, 4 posts a second
    Large,
    /// 1,000 rooms of 10, one post a second in each
    Rooms,
    /// 10,000 connections that do nothing, before and after each carried traffic
    Idle,
    /// 1, 64 and 1,024 senders, each waiting for its acknowledgement
    Durable,
    /// 1,000 in one room, 5 % of whom never read: what the others feel of it
    Stalled,
    /// 10,000 come back at once to a server that was started again, 50 posts behind: to one room, to 1,000 rooms
    Resume,
    /// What a post costs as its room grows, a connection as its rooms grow, an arrival as the history grows
    Scale,
    /// A page of 50 out of 1,000,000 posts: of history, and of events as whoever resumes reads them
    Pages,
    /// For the plots: 1,000 in one room, ever more posts a second until it breaks
    Ladder,
    /// For the plots: 1,000 in one room, ever larger bursts
    Bursts,
    /// For the plots: memory of 1,000 to 15,000 connections
    Memory,
}

/// What one phase does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Act {
    /// Everybody enters their rooms.
    Enter,
    /// Nothing.
    Hold,
    /// Posts on the clock.
    Open {
        /// Ticks a second.
        rate: f64,
        /// Posts at each tick.
        burst: usize,
        /// So many clients never read again.
        deaf: usize,
    },
    /// Each sender waits for its acknowledgement.
    Closed,
    /// Each client asks again and again.
    Ask(Question),
    /// Posts on the clock, for so long whatever time is asked for: what somebody who comes back has missed.
    Missed {
        /// Posts a second.
        rate: f64,
        /// How long.
        seconds: f64,
    },
    /// The server ends without a word and is started again; everybody comes back at once.
    ComeBack,
}

/// Which figures of a phase are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Telling {
    /// None: it prepares the next.
    Nothing,
    /// CPU per delivery, and how long the last receiver waited.
    Delivery,
    /// Memory per connection, and what heartbeats cost.
    Idle,
    /// Memory per connection after traffic.
    Used,
    /// Posts a second, and how long acknowledgements took.
    Durable,
    /// As [`Telling::Delivery`], beside the same without anybody who does not read.
    Stalled,
    /// What a return cost, and whether anything was lost.
    Resumed,
    /// CPU per delivery and post, memory per connection.
    Scale,
    /// Answers a second, and how long they took.
    Asked,
}

impl Telling {
    /// What it adds to a scene's title.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::Idle => ", untouched",
            Self::Used => ", after traffic",
            Self::Stalled => ", 5 % of whom never read",
            Self::Nothing | Self::Delivery | Self::Durable | Self::Resumed | Self::Scale | Self::Asked => "",
        }
    }
}

/// One phase of a scene.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Step {
    /// What is done.
    pub(crate) act: Act,
    /// For how long, as a part of the asked time.
    pub(crate) time: f64,
    /// What is told of it.
    pub(crate) telling: Telling,
    /// What it adds to the title, and where it stands in a plot.
    pub(crate) label: Option<(String, f64)>,
}

impl Step {
    fn new(act: Act, time: f64, telling: Telling) -> Self {
        Self { act, time, telling, label: None }
    }

    fn at(self, label: String, x: f64) -> Self {
        Self { label: Some((label, x)), ..self }
    }
}

/// Everybody enters.
const ENTER: Step = Step { act: Act::Enter, time: 0.0, telling: Telling::Nothing, label: None };

/// A set of connections on a fresh server, and what they do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scene {
    /// Told above its table.
    pub(crate) title: String,
    /// Connections.
    pub(crate) clients: usize,
    /// Rooms, each with as many of them.
    pub(crate) rooms: usize,
    /// How many of each room post.
    pub(crate) senders: usize,
    /// Whether members follow their room.
    pub(crate) follow: bool,
    /// Whether other servers have it, too: those that store nothing are not asked for what is stored.
    pub(crate) peers: bool,
    /// Rooms besides, of which everybody is a member.
    pub(crate) more_rooms: usize,
    /// Posts that are in the room before anybody comes.
    pub(crate) filled: Option<u64>,
    /// Ends at the first step that a server cannot hold, which is no failure.
    pub(crate) until_broken: bool,
    /// Posts in one transaction of the raw store that stands beside it.
    pub(crate) raw_batch: Option<usize>,
    /// What is done, in order.
    pub(crate) steps: Vec<Step>,
}

impl Scene {
    /// Connections that enter one room and do something there.
    fn of(title: impl Into<String>, clients: usize, senders: usize, steps: Vec<Step>) -> Self {
        Self {
            title: title.into(),
            clients,
            rooms: 1,
            senders,
            follow: true,
            peers: true,
            more_rooms: 0,
            filled: None,
            until_broken: false,
            raw_batch: None,
            steps,
        }
    }

    fn posted(title: &str, clients: usize, senders: usize, rate: f64, burst: usize, telling: Telling) -> Self {
        let open = |time, telling| Step::new(Act::Open { rate, burst, deaf: 0 }, time, telling);
        // Nobody is measured while the code of a young runtime is still being compiled.
        Self::of(title, clients, senders, vec![ENTER, open(0.3, Telling::Nothing), open(1.0, telling)])
    }

    /// Only ours has it: others store nothing.
    fn ours(self) -> Self {
        Self { peers: false, ..self }
    }
}

impl Workload {
    /// Those that run where none is named: all but those for the plots.
    pub(crate) fn usual() -> Vec<Self> {
        let all = Self::value_variants().iter().copied();
        all.filter(|one| !matches!(one, Self::Ladder | Self::Bursts | Self::Memory)).collect()
    }

    /// Its name on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// What it consists of.
    pub(crate) fn scenes(self) -> Vec<Scene> {
        let posted = |title, clients, rate, burst| Scene::posted(title, clients, 20, rate, burst, Telling::Delivery);
        match self {
            Self::Fanout => vec![posted("1,000 in a room, 20 posts/s one by one", 1_000, 20.0, 1)],
            Self::Burst => vec![posted("1,000 in a room, bursts of 16, 320 posts/s", 1_000, 20.0, 16)],
            Self::Large => vec![posted("10,000 in a room, 4 posts/s", 10_000, 4.0, 1)],
            Self::Rooms => {
                let all = posted("1,000 rooms of 10, one post/s in each", 10_000, 1_000.0, 1);
                vec![Scene { rooms: 1_000, senders: 10, ..all }]
            }
            Self::Idle => vec![idle()],
            Self::Durable => [1, 64, 1_024].into_iter().map(durable).collect(),
            Self::Stalled => vec![stalled()],
            Self::Resume => [1, 1_000].into_iter().map(resume).collect(),
            Self::Scale => scale(),
            Self::Pages => {
                let ask = |question, title: &str| {
                    let step = Step::new(Act::Ask(question), 0.5, Telling::Asked);
                    let scene = Scene::of(title, 4, 4, vec![ENTER, step]);
                    Scene { filled: Some(1_000_000), ..scene }.ours()
                };
                vec![
                    ask(Question::History, "pages of history, 4 at once, out of 1,000,000 posts"),
                    ask(Question::Events, "pages of events, 4 at once, out of 1,000,000 posts"),
                ]
            }
            Self::Ladder => vec![ladder()],
            Self::Bursts => vec![bursts()],
            Self::Memory => [1_000, 2_500, 5_000, 10_000, 15_000].into_iter().map(memory).collect(),
        }
    }
}

fn idle() -> Scene {
    let hold = |telling| Step::new(Act::Hold, 1.0, telling);
    let traffic = Step::new(Act::Open { rate: 100.0, burst: 1, deaf: 0 }, 0.5, Telling::Nothing);
    let steps = vec![hold(Telling::Idle), ENTER, traffic, hold(Telling::Used)];
    // Rooms of 100, so that a connection carries some traffic and not a flood.
    Scene { rooms: 100, ..Scene::of("10,000 idle connections, in rooms of 100", 10_000, 1, steps) }
}

fn memory(clients: usize) -> Scene {
    let step = Step::new(Act::Hold, 0.3, Telling::Idle).at(String::new(), clients as f64);
    Scene::of(format!("{clients} idle connections"), clients, 1, vec![step])
}

fn durable(senders: usize) -> Scene {
    let closed = |time, telling| Step::new(Act::Closed, time, telling);
    let title = format!("durable posts, {senders} senders that wait for their acknowledgement");
    let steps = vec![ENTER, closed(0.1, Telling::Nothing), closed(0.5, Telling::Durable)];
    Scene { follow: false, raw_batch: Some(senders), ..Scene::of(title, senders, senders, steps) }.ours()
}

fn stalled() -> Scene {
    let open = |deaf, time, telling| Step::new(Act::Open { rate: 20.0, burst: 4, deaf }, time, telling);
    let steps = vec![
        ENTER,
        open(0, 0.3, Telling::Nothing),
        open(0, 1.0, Telling::Delivery),
        // Until what the kernel keeps for them is full.
        open(50, 0.5, Telling::Nothing),
        open(50, 1.0, Telling::Stalled),
    ];
    Scene::of("1,000 in a room, bursts of 4, 80 posts/s", 1_000, 20, steps)
}

fn resume(rooms: usize) -> Scene {
    // At most so many posts a second, so that nobody is cut off for being slow.
    let rate = if rooms == 1 { 10.0 } else { 2_000.0 };
    let posts = (rooms as u64 * PAGE) as f64;
    let missed = Step::new(Act::Missed { rate, seconds: posts / rate }, 0.0, Telling::Nothing);
    let steps = vec![ENTER, missed, Step::new(Act::ComeBack, 1.0, Telling::Resumed)];
    let title = match rooms {
        1 => "10,000 come back to one room after a restart, 50 behind".to_owned(),
        _ => format!("10,000 come back to {rooms} rooms after a restart, 50 behind"),
    };
    Scene { rooms, ..Scene::of(title, 10_000, 10, steps) }.ours()
}

fn scale() -> Vec<Scene> {
    let mut scenes = Vec::new();
    // The same deliveries a second, whatever the size of the room.
    for (members, rate) in [(100, 200.0), (1_000, 20.0), (10_000, 2.0)] {
        let title = format!("{members} members, {rate} posts/s");
        scenes.push(Scene::posted(&title, members, 20, rate, 1, Telling::Scale).ours());
    }
    // With the room that is followed and the one that everybody is in, 1,000 are the most that one person may be in.
    for more_rooms in [0, 9, 99, 998] {
        let title = format!("100 members of {} rooms each, 200 posts/s in the one they follow", more_rooms + 1);
        let scene = Scene::posted(&title, 100, 20, 200.0, 1, Telling::Scale);
        scenes.push(Scene { more_rooms, ..scene }.ours());
    }
    for posts in [100, 10_000, 1_000_000] {
        let step = Step::new(Act::Ask(Question::Open), 0.5, Telling::Asked);
        let title = format!("a room of {posts} posts is opened, 4 at once");
        scenes.push(Scene { filled: Some(posts), ..Scene::of(title, 4, 4, vec![ENTER, step]) }.ours());
    }
    scenes
}

fn ladder() -> Scene {
    let rates = [20.0, 40.0, 80.0, 120.0, 160.0, 240.0, 320.0, 480.0, 640.0, 960.0, 1_280.0];
    let step = |rate: f64| {
        Step::new(Act::Open { rate, burst: 1, deaf: 0 }, 0.5, Telling::Delivery).at(format!(", {rate} posts/s"), rate)
    };
    let steps = [ENTER].into_iter().chain(rates.map(step)).collect();
    Scene { until_broken: true, ..Scene::of("1,000 in a room, one by one", 1_000, 20, steps) }
}

fn bursts() -> Scene {
    let step = |burst: usize| {
        let act = Act::Open { rate: 10.0, burst, deaf: 0 };
        Step::new(act, 0.5, Telling::Delivery).at(format!(", bursts of {burst}"), burst as f64)
    };
    let steps = [ENTER].into_iter().chain([1, 2, 4, 8, 16, 32].map(step)).collect();
    Scene { until_broken: true, ..Scene::of("1,000 in a room, 10 bursts/s", 1_000, 16, steps) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scene_ends_with_something_that_is_told() {
        for scene in Workload::value_variants().iter().flat_map(|workload| workload.scenes()) {
            let last = scene.steps.last().expect("a step");
            assert!(last.telling != Telling::Nothing && last.time > 0.0, "{scene:?}");
            assert!(scene.clients <= 15_000, "the server takes 16,000: {scene:?}");
            assert!(scene.clients >= scene.rooms && scene.clients / scene.rooms >= scene.senders, "{scene:?}");
        }
    }
}
