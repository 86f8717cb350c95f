//! A client's machine and a server's machine, a cable between them, and what can happen to it: two network namespaces, a
//! pair of virtual Ethernet devices, and rules of the kernel's own packet filter.
//!
//! Must not live here: tests. Invariant: nothing outside the two namespaces is touched, and the kernels' TCP at both
//! ends is the real one, with its retransmissions and its late deliveries. Needs root.
//!
//! The server has two addresses. Faults strike [`CUT`] alone, so that somebody who uses [`FREE`] can watch.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::holder::{Holder, Space};
use crate::server::{ServerOptions, ServerProcess};

/// The server's address that faults strike.
pub const CUT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 4);
/// The server's address that stays reachable.
pub const FREE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

/// What the cable does to packets from and to [`CUT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cable {
    /// Carries everything.
    Whole,
    /// Drops packets, silently.
    Dead {
        /// From the client to the server.
        up: bool,
        /// From the server to the client.
        down: bool,
    },
    /// Drops this share of the packets in both directions, silently.
    Lossy {
        /// Out of a hundred.
        percent: u8,
    },
    /// Answers every packet of the client with a reset.
    Reset,
    /// Carries little. Both addresses share it.
    Thin {
        /// Kilobits per second, each way.
        kbit: u32,
    },
}

impl Cable {
    /// Drops everything.
    pub const DEAD: Self = Self::Dead { up: true, down: true };

    /// The rules for packets that reach the server, and for those that reach the client.
    fn rules(self) -> (String, String) {
        let drop_if = |on: bool, rule: String| if on { rule } else { String::new() };
        match self {
            Self::Whole | Self::Thin { .. } => Default::default(),
            Self::Dead { up, down } => {
                (drop_if(up, format!("ip daddr {CUT} drop")), drop_if(down, format!("ip saddr {CUT} drop")))
            }
            Self::Lossy { percent } => (
                format!("ip daddr {CUT} numgen random mod 100 < {percent} drop"),
                format!("ip saddr {CUT} numgen random mod 100 < {percent} drop"),
            ),
            Self::Reset => (format!("ip daddr {CUT} meta l4proto tcp reject with tcp reset"), String::new()),
        }
    }
}

/// The two machines.
#[derive(Debug)]
pub struct Network {
    client: Holder,
    server: Holder,
}

impl Network {
    /// Connects them.
    ///
    /// # Panics
    /// Where it may not: it needs root, and `ip`, `nft` and `tc`.
    #[must_use]
    pub fn connect() -> Self {
        let network = Self { client: Holder::start(Space::Network), server: Holder::start(Space::Network) };
        let there = network.server.wrapper()[1].rsplit_once('=').expect("an option with a path").1.to_owned();
        let (client, server) = (&network.client, &network.server);
        client.run(&["ip", "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", &there]);
        for (holder, addresses) in [(client, vec![Ipv4Addr::new(10, 77, 0, 1)]), (server, vec![FREE, CUT])] {
            for address in addresses {
                holder.run(&["ip", "address", "add", &format!("{address}/24"), "dev", "cable"]);
            }
            holder.run(&["ip", "link", "set", "lo", "up"]);
            holder.run(&["ip", "link", "set", "cable", "up"]);
        }
        network
    }

    /// Starts a server on its machine. Its address is the one that stays reachable.
    #[must_use]
    pub fn start(&self, options: ServerOptions) -> ServerProcess {
        let wrapper = self.server.wrapper();
        let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
        options.under(&wrapper).at(Ipv4Addr::UNSPECIFIED.into(), FREE.into()).start()
    }

    /// Returns where a client reaches a server over the part of the cable that faults strike.
    #[must_use]
    pub fn cut(&self, server: &ServerProcess) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(CUT), server.address().port())
    }

    /// Changes what the cable does, for open connections too.
    ///
    /// # Panics
    /// If the kernel does not take the rules.
    pub fn set(&self, cable: Cable) {
        let (up, down) = cable.rules();
        for (holder, rule) in [(&self.server, up), (&self.client, down)] {
            let rules = format!(
                "flush ruleset; table inet fault {{ chain arriving {{ type filter hook input priority 0; {rule} ; }}; }}"
            );
            holder.run(&["nft", &rules]);
            if let Cable::Thin { kbit } = cable {
                let rate = format!("{kbit}kbit");
                let shape =
                    ["tc", "qdisc", "replace", "dev", "cable", "root", "tbf", "rate", &rate, "burst", "8kb", "latency"];
                holder.run(&[&shape[..], &["400ms"]].concat());
            } else if holder.run(&["tc", "qdisc", "show", "dev", "cable"]).contains("tbf") {
                holder.run(&["tc", "qdisc", "delete", "dev", "cable", "root"]);
            }
        }
    }

    /// Counts the server's open connections over the part of the cable that faults strike.
    #[must_use]
    pub fn connections(&self) -> usize {
        let filter = format!("src = {CUT}");
        self.server.run(&["ss", "--no-header", "--numeric", "--tcp", "state", "established", &filter]).lines().count()
    }

    /// Counts the connections the server's kernel could not keep until they were accepted.
    ///
    /// # Panics
    /// Where the kernel does not tell.
    #[must_use]
    pub fn dropped_at_the_door(&self) -> u64 {
        let counters = self.server.run(&["cat", "/proc/net/netstat"]);
        let lines: Vec<Vec<&str>> = counters.lines().map(|line| line.split_whitespace().collect()).collect();
        // Names stand in one line, their values in the next.
        let pairs = lines.chunks_exact(2).flat_map(|pair| pair[0].iter().zip(&pair[1]));
        let dropped = pairs.filter(|(name, _)| ["ListenOverflows", "ListenDrops"].contains(name));
        dropped.map(|(_, value)| value.parse::<u64>().expect("a number")).sum()
    }

    /// Runs what clients do on the client's machine, to its end.
    ///
    /// # Panics
    /// As `body` does.
    pub fn run<T: Send>(&self, body: impl AsyncFnOnce() -> T + Send) -> T {
        let space = self.client.open();
        let there = move || {
            // Namespaces are a thread's own, so everything happens on this one.
            move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may enter");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(body())
        };
        std::thread::scope(|scope| match scope.spawn(there).join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }
}
