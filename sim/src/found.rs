//! By which words each planted bug is to be found: a bug that is found by an accident of another check proves nothing about
//! the one that was made for it.
//!
//! Must not live here: the bugs, or the checks. Invariant: every bug has words, and at least one violation says them.

use shared::planted::Bug;

/// Returns what a violation must say, any of it, that counts as finding a bug.
#[must_use]
pub const fn words_of(bug: Bug) -> &'static [&'static str] {
    match bug {
        Bug::StaleSocket => &["comes next", "is not stored", "not told so", "without a connection", "is not there"],
        Bug::GapIgnored => &["comes next"],
        Bug::CursorMovedByHint | Bug::ResumedAtHead => &["CatchingUp", "was promised", "comes next"],
        Bug::DedupWindow => &["a send was stored twice"],
        Bug::NoJitter => &["nothing is drawn"],
        Bug::LiveOnOpen | Bug::LiveWhileBehind => &["shows that it is live"],
        Bug::ClearedOnRefusal => &["what is nowhere", "is queued, and"],
        Bug::ForkAccepted => &["what is not stored there", "stored is", "posts of others came"],
        Bug::LateTimer => &["missed a heartbeat", "gave up"],
        Bug::AckBeforeCommit => &["was acknowledged at seq"],
        Bug::PublishBeforeCommit => &["what is not stored"],
        Bug::NoSync => &["is not stored", "was no member"],
        Bug::FailedSyncRefused => &["stored is", "is not stored", "was refused for good", "acknowledged"],
        Bug::OrderIgnored | Bug::ClockOrder => &["is out of order"],
        Bug::MembershipKept => &["of a room its person had left", "was no member"],
        Bug::AnyPostStruck => &["was meant for another post"],
        Bug::NoSweep => &["live and calm at", "is at Some", "counts"],
        Bug::RemovedWhenSent => &["was saved, and is lost"],
        Bug::NewKeyOnResend => &["does not come to rest", "what is nowhere"],
        Bug::DroppedOnLoss | Bug::ChangeDropped => &["is queued, and", "is lost", "on its way that is not"],
        Bug::OldestSettled => &["was acknowledged at seq"],
        Bug::BeatUnanswered | Bug::SpeakerClosed => &["a link that is well"],
        Bug::EditIgnored => &["stored is Post"],
        Bug::DeletedTextTold => &["a text that had been deleted"],
        Bug::EchoKept => &["twice"],
        Bug::ResetForNothing => &["begins anew without a cause"],
        Bug::ReplayIgnored => &["was made to jump"],
        Bug::QueueGrows => &["wait for one peer"],
        Bug::ParkedOnRefusal => &["was refused for good without a cause"],
        Bug::ReactionIgnored => &["is not there: React"],
        Bug::OwnChangeLost => &["live and calm at", "follows", "does not know whether"],
        Bug::SentTaken => &["posts of others came"],
        Bug::LeaveIgnored => &["is done, and it is not"],
        Bug::PageTorn => &["was shown"],
        Bug::HeadsUntold | Bug::HeadsUnsure => &["posts of"],
        Bug::Flapping => &["connections within a minute"],
        Bug::NameKept => &["calls"],
    }
}
