//! The way from a greeting that was read to an open connection, and how long its session lasts.
//!
//! Must not live here: reading the greeting ([`super::open`]). Invariant: the welcome comes first, then each room that was
//! asked for with what is followed of it, then that the client is live.

use std::sync::Arc;

use shared::ids::{RequestId, StreamId};
use shared::message::{Event, Hello, Message, Reply, Welcome};
use shared::model::ServerInfo;
use shared::time::Timestamp;

use super::{Announced, Connection, Phase, Whose, open};
use crate::config::ms;
use crate::drain::Phase as ServerPhase;
use crate::socket::Socket;

impl<S: Socket> Connection<S> {
    pub(super) fn welcome(&mut self, id: Option<RequestId>, hello: &Hello, greeting: open::Greeting) {
        let Some(entered) = &mut self.entered else { return };
        let (app, user) = (Arc::clone(&self.app), entered.peer.user);
        entered.follows.set_members(greeting.members.iter().copied(), greeting.lsn);
        app.presence.enter(user, &greeting.you.name, greeting.members);
        entered.presence = Announced::Yes;
        let welcome = Welcome {
            protocol: hello.protocol.min(shared::limits::PROTOCOL_VERSION),
            server: ServerInfo { epoch: greeting.epoch, build: app.build().to_owned(), lsn: greeting.lsn },
            connection: entered.peer.connection,
            you: greeting.you,
            now: app.ambient.wall_clock(),
            heartbeat: app.config.heartbeat(),
            reconnect_spread_ms: app.config.reconnect_spread_ms(app.sockets()),
            limits: app.config.wire_limits(),
            draining: app.drain.phase() != ServerPhase::Serving,
            user: greeting.user,
            user_recovered: greeting.user_from.is_some(),
            rooms_complete: greeting.rooms_complete,
            rooms: greeting.rooms,
        };
        self.phase = Phase::Open;
        self.say(&Message::reply(id, Reply::Welcome(Box::new(welcome))));
        let head = greeting.user.seq;
        self.follow_from(StreamId::User(user), Some(greeting.user_from.unwrap_or(head)), head, Some(head));
        for plan in greeting.plans {
            let room = StreamId::Room(plan.opened.room);
            let message = Message::event(Event::Opened(plan.opened));
            self.outlet.lock().push(open::frame_with(&message, plan.roster.as_deref()));
            self.follow_from(room, plan.from, plan.head, Some(plan.head));
        }
        if let Whose::Shown(identity) = std::mem::replace(&mut self.whose, Whose::Known(user)) {
            self.session_lasts_until(identity.expires);
        }
        self.tell_live();
    }

    /// Plans to look at the session when half of its life is over; at once where it is: whoever comes in its second half
    /// uses it, too.
    fn session_lasts_until(&mut self, expires: Timestamp) {
        let left = expires.since(self.app.ambient.wall_clock());
        let wait = left.saturating_sub(self.app.config.timing.session_ms / 2);
        self.session_at = Some(self.app.ambient.now() + ms(wait.saturating_add(1)));
    }

    /// Plans the next look. A session that could not be renewed is looked at when that was planned, and when it ends.
    pub(super) fn session_was_looked_at(&mut self, expires: Timestamp) {
        let left = expires.since(self.app.ambient.wall_clock());
        if left > self.app.config.timing.session_ms / 2 {
            return self.session_lasts_until(expires);
        }
        let end = self.app.ambient.now() + ms(left.saturating_add(1));
        self.session_at = self.session_at.map(|again| again.min(end));
    }
}
