//! Bugs that are planted on purpose, one at a time, to show that the simulator can find them.
//!
//! Lives here: their names, and the switch. Must not live here: the bugs, which stand where they would. Invariant: without
//! the feature `planted`, which only `cargo xtask sim --mutants` turns on, no bug is ever planted and nothing is left of
//! the switch.

macro_rules! bugs {
    ($($(#[doc = $words:literal])+ $name:ident,)*) => {
        /// A bug that can be planted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Bug {
            $($(#[doc = $words])+ $name,)*
        }

        impl Bug {
            /// Every bug.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Says what is wrong with it.
            #[must_use]
            pub const fn words(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($words),+),)*
                }
            }
        }
    };
}

bugs! {
    /// A message of an older socket counts as one of the newest.
    StaleSocket,
    /// The server loses an event on the way, and the client goes on over the gap.
    GapIgnored,
    /// A hint moves the reader's cursor.
    CursorMovedByHint,
    /// The key of a send is forgotten after half a minute.
    DedupWindow,
    /// Waits between attempts are always the longest.
    NoJitter,
    /// The page is called live as soon as a socket is open.
    LiveOnOpen,
    /// The page is called live although events are still to come.
    LiveWhileBehind,
    /// A refusal that passes takes the post out of the outbox.
    ClearedOnRefusal,
    /// A cursor from another history is believed.
    ForkAccepted,
    /// A late timer counts as a missing answer.
    LateTimer,
    /// A send is acknowledged although it was not stored.
    AckBeforeCommit,
    /// A change is shown before it is stored.
    PublishBeforeCommit,
    /// A record is not synced.
    NoSync,
    /// A failed sync counts as a full disk.
    FailedSyncRefused,
    /// A send is taken although an earlier one was refused for now.
    OrderIgnored,
    /// Whoever leaves a room still gets its events.
    MembershipKept,
    /// A change is made to whichever post has the place of the one that was meant.
    AnyPostStruck,
    /// Nobody looks whether a hint was lost.
    NoSweep,
    /// A post leaves the device when it is sent, not when it is stored.
    RemovedWhenSent,
    /// A post that is sent again gets another key.
    NewKeyOnResend,
    /// What is found unsent is sent in the order of the wall clock.
    ClockOrder,
    /// What was on its way when the link broke is forgotten.
    DroppedOnLoss,
    /// An acknowledgement settles the oldest send, whichever it is of.
    OldestSettled,
    /// The server does not answer heartbeats.
    BeatUnanswered,
    /// A client that was behind when it resumed is sent what follows from the head on.
    ResumedAtHead,
    /// The text of an edited post stays what it was.
    EditIgnored,
    /// The text of a deleted post is told to whoever comes back.
    DeletedTextTold,
    /// What somebody wrote is still shown as on its way when it is stored, beside what is stored.
    EchoKept,
    /// An edit, a deletion or a reaction that was on its way when the link broke is forgotten.
    ChangeDropped,
    /// The server takes a peer that speaks for one that is silent, and closes its connection.
    SpeakerClosed,
    /// Whoever comes back begins anew, although the history is the same.
    ResetForNothing,
    /// A program that asked for every event is given the newest.
    ReplayIgnored,
    /// What comes next is put behind what a peer does not take.
    QueueGrows,
    /// A refusal that passes parks what was sent, for good.
    ParkedOnRefusal,
    /// A reaction is acknowledged and not stored.
    ReactionIgnored,
    /// Whoever joins or leaves a room on one device is not told so on the others.
    OwnChangeLost,
    /// What was sent is taken from the posts of others that came.
    SentTaken,
    /// Whoever leaves a room is told that it is done, and stays a member.
    LeaveIgnored,
    /// A page of older posts leaves one out.
    PageTorn,
    /// Whoever has a room in the list and not open is not told of its posts.
    HeadsUntold,
    /// What came to a room before it was watched is not looked for.
    HeadsUnsure,
    /// A connection is given up a few seconds after it is live.
    Flapping,
    /// What somebody is called stays what it was.
    NameKept,
}

#[cfg(feature = "planted")]
mod switch {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Plants a bug on this thread, or none.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    /// Tells whether a bug is planted on this thread.
    #[must_use]
    pub fn is_planted(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }
}

#[cfg(not(feature = "planted"))]
mod switch {
    use super::Bug;

    /// Plants nothing: this build has no bugs to plant.
    pub const fn plant(_: Option<Bug>) {}

    /// Says that no bug is planted.
    #[must_use]
    #[inline(always)]
    pub const fn is_planted(_: Bug) -> bool {
        false
    }
}

pub use switch::{is_planted, plant};
