//! Short messages that come and go by hand.
//!
//! Must not live here: when they end. Invariant: the region is in the document before its first notice, so it is announced.

use yew::prelude::*;

use super::button::word_button;
use super::frame::Frame;
use super::icon::Icon;
use crate::store::{Action, Notice, NoticeKind};
use crate::words::{Text, Word, error_words, reset_words};

/// So much of a refused text tells which one it is, in characters.
const QUOTED: usize = 60;

/// Draws the notices, the newest last.
pub fn notices(frame: &Frame, notices: &[Notice]) -> Html {
    let notices = notices.iter().map(|notice| {
        let (tone, words) = words(frame, &notice.what);
        let close = frame.actions.on(Action::CloseNotice(notice.id));
        html! {
            <div key={notice.id} class={classes!("notice-card", tone)} data-testid="notice">
                <p>{ words }</p>
                if let NoticeKind::PostRefused { client_id, body, .. } = &notice.what {
                    { word_button("link", Some("notice-copy"), frame.word(Word::Copy), frame.actions.on(Action::Copy(body.clone()))) }
                    { word_button("link", Some("notice-discard"), frame.word(Word::Delete), frame.actions.on(Action::Discard(*client_id))) }
                }
                <button type="button" class="icon-button" aria-label={frame.word(Word::Dismiss)} onclick={close}>
                    { Icon::Close.draw_small() }
                </button>
            </div>
        }
    });
    html! { <div class="notices" role="status">{ for notices }</div> }
}

fn words(frame: &Frame, what: &NoticeKind) -> (&'static str, AttrValue) {
    match what {
        NoticeKind::Refused(error) => ("tone-stopped", error_words(frame.language, error).into()),
        NoticeKind::OutboxFull => ("tone-warn", frame.word(Word::OutboxFull)),
        NoticeKind::Copied => ("tone-ok", frame.word(Word::Copied)),
        NoticeKind::RoomReset(reason) => ("tone-warn", reset_words(frame.language, *reason).into()),
        NoticeKind::Adopted(count) => ("tone-busy", frame.say(&Text::Adopted { n: *count as u64 })),
        NoticeKind::ChangeRefused { error, .. } => {
            let reason = error_words(frame.language, error);
            ("tone-stopped", frame.say(&Text::ChangeRefused { reason }))
        }
        NoticeKind::PostRefused { error, body, .. } => {
            let reason = error_words(frame.language, error);
            let begins: String = body.chars().take(QUOTED).collect();
            ("tone-stopped", format!("{} “{begins}”", frame.say(&Text::PostRefused { reason })).into())
        }
    }
}
