//! A durable request on its way, as the outbox holds it and the device stores it.
//!
//! Must not live here: when it is sent (`outbox`). Invariant: what an older version stored is read, and what is stored
//! under a key means the same for ever.

use serde::{Deserialize, Serialize};

use crate::error::WireError;
use crate::ids::{ClientId, RoomId, Seq};
use crate::model::PostRef;
use crate::object::object;
use crate::time::Timestamp;

/// A durable request, without its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "OpForm", into = "OpForm")]
pub enum SendOp {
    /// A new post.
    Post {
        /// The text.
        body: String,
    },
    /// Another text for a post of mine.
    Edit {
        /// Which post.
        post: PostRef,
        /// The new text.
        body: String,
    },
    /// Delete a post of mine.
    Delete {
        /// Which post.
        post: PostRef,
    },
    /// React.
    React {
        /// To which post.
        post: PostRef,
        /// With what.
        emoji: String,
        /// Add it, or take it back.
        on: bool,
    },
}

/// How a [`SendOp`] is laid out in JSON. By hand, as [`crate::model::OpenOutcome`] is.
#[derive(Clone, Default, Serialize)]
struct OpForm {
    op: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    post: Option<Seq>,
    #[serde(skip_serializing_if = "Option::is_none")]
    post_client_id: Option<ClientId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    emoji: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on: Option<bool>,
}

object!(OpForm { op, post = default, post_client_id = default, body = default, emoji = default, on = default });

impl From<SendOp> for OpForm {
    fn from(op: SendOp) -> Self {
        let named = |name: &str| Self { op: name.to_owned(), ..Self::default() };
        let naming =
            |name, PostRef { seq, client_id }| Self { post: Some(seq), post_client_id: client_id, ..named(name) };
        match op {
            SendOp::Post { body } => Self { body: Some(body), ..named("post") },
            SendOp::Edit { post, body } => Self { body: Some(body), ..naming("edit", post) },
            SendOp::Delete { post } => naming("delete", post),
            SendOp::React { post, emoji, on } => Self { emoji: Some(emoji), on: Some(on), ..naming("react", post) },
        }
    }
}

impl TryFrom<OpForm> for SendOp {
    type Error = String;

    fn try_from(form: OpForm) -> Result<Self, Self::Error> {
        let OpForm { op, post, post_client_id, body, emoji, on } = form;
        let lacks = |field: &str| format!("an op `{op}` needs `{field}`");
        let post = || {
            let seq = post.ok_or_else(|| lacks("post"))?;
            Ok::<_, String>(PostRef { seq, client_id: post_client_id })
        };
        let body = || body.ok_or_else(|| lacks("body"));
        Ok(match op.as_str() {
            "post" => Self::Post { body: body()? },
            "edit" => Self::Edit { post: post()?, body: body()? },
            "delete" => Self::Delete { post: post()? },
            "react" => Self::React {
                post: post()?,
                emoji: emoji.ok_or_else(|| lacks("emoji"))?,
                on: on.ok_or_else(|| lacks("on"))?,
            },
            other => return Err(format!("`{other}` is no op")),
        })
    }
}

/// A durable request on its way, as it is stored on the device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OutboxItem {
    /// Its key, for ever.
    pub client_id: ClientId,
    /// Where.
    pub room: RoomId,
    /// What.
    pub op: SendOp,
    /// The wall clock when it was queued.
    pub queued_at: Timestamp,
    /// Its place among this device's items: the wall clock in milliseconds, or one above the highest known. So it grows
    /// within a life whatever the clock does, and between two that do not know of each other's items with it.
    pub order: u64,
    /// It may have reached the server. From here on its content must not change.
    pub attempted: bool,
    /// The server's refusal, if it was refused for good. Parked: the rest goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<WireError>,
}

object!(OutboxItem { client_id, room, op, queued_at, order, attempted = default, refused = default });
