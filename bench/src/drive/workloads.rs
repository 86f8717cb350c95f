//! What is measured: the workloads by name, and the scenes each consists of.
//!
//! Must not live here: running them. Invariant: a scene is the same for every server, whatever the server is good at.

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
    },
    /// Each sender waits for its acknowledgement.
    Closed,
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
}

impl Telling {
    /// What it adds to a scene's title.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::Idle => ", untouched",
            Self::Used => ", after traffic",
            Self::Nothing | Self::Delivery | Self::Durable => "",
        }
    }
}

/// One phase of a scene.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Step {
    /// What is done.
    pub(crate) act: Act,
    /// For how long, as a part of the asked time.
    pub(crate) time: f64,
    /// What is told of it.
    pub(crate) telling: Telling,
}

const ENTER: Step = Step { act: Act::Enter, time: 0.0, telling: Telling::Nothing };

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
    /// Posts in one transaction of the raw store that stands beside it.
    pub(crate) raw_batch: Option<usize>,
    /// What is done, in order.
    pub(crate) steps: Vec<Step>,
}

impl Scene {
    fn room(title: &str, clients: usize, senders: usize, rate: f64, burst: usize) -> Self {
        let steps = vec![
            ENTER,
            // Nobody is measured while the code of a young runtime is still being compiled.
            Step { act: Act::Open { rate, burst }, time: 0.3, telling: Telling::Nothing },
            Step { act: Act::Open { rate, burst }, time: 1.0, telling: Telling::Delivery },
        ];
        Self { title: title.into(), clients, rooms: 1, senders, follow: true, peers: true, raw_batch: None, steps }
    }
}

impl Workload {
    /// Those that run where none is named.
    pub(crate) fn usual() -> Vec<Self> {
        Self::value_variants().to_vec()
    }

    /// Its name on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// What it consists of.
    pub(crate) fn scenes(self) -> Vec<Scene> {
        match self {
            Self::Fanout => vec![Scene::room("1,000 in a room, 20 posts/s one by one", 1_000, 20, 20.0, 1)],
            Self::Burst => vec![Scene::room("1,000 in a room, bursts of 16, 320 posts/s", 1_000, 16, 20.0, 16)],
            Self::Large => vec![Scene::room("10,000 in a room, 4 posts/s", 10_000, 20, 4.0, 1)],
            Self::Rooms => {
                let all = Scene::room("1,000 rooms of 10, one post/s in each", 10_000, 10, 1_000.0, 1);
                vec![Scene { rooms: 1_000, ..all }]
            }
            Self::Idle => {
                let hold = |telling| Step { act: Act::Hold, time: 1.0, telling };
                let traffic = Act::Open { rate: 100.0, burst: 1 };
                let steps = vec![
                    hold(Telling::Idle),
                    ENTER,
                    Step { act: traffic, time: 0.5, telling: Telling::Nothing },
                    hold(Telling::Used),
                ];
                // Rooms of 100, so that a connection carries some traffic and not a flood.
                let all = Scene::room("10,000 idle connections, in rooms of 100", 10_000, 1, 0.0, 0);
                vec![Scene { rooms: 100, steps, ..all }]
            }
            Self::Durable => [1, 64, 1_024].into_iter().map(durable).collect(),
        }
    }
}

fn durable(senders: usize) -> Scene {
    let closed = |time, telling| Step { act: Act::Closed, time, telling };
    Scene {
        title: format!("durable posts, {senders} senders that wait for their acknowledgement"),
        clients: senders,
        rooms: 1,
        senders,
        follow: false,
        peers: false,
        raw_batch: Some(senders),
        steps: vec![ENTER, closed(0.1, Telling::Nothing), closed(0.5, Telling::Durable)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scene_ends_with_something_that_is_told() {
        for scene in Workload::usual().into_iter().flat_map(Workload::scenes) {
            let last = scene.steps.last().expect("a step");
            assert!(last.telling != Telling::Nothing && last.time > 0.0, "{scene:?}");
            assert!(scene.clients >= scene.rooms && scene.clients / scene.rooms >= scene.senders, "{scene:?}");
        }
    }
}
