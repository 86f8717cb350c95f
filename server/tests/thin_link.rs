//! What goes over a link that carries less than there is to say: posts, all of them, before anything that is soon stale.
//!
//! Must not live here: links that really are thin (`e2e`). Invariant: the reader's connection takes a step only when the
//! test lets it, and its link carries only what the test allows, so that nothing depends on time.

mod common;

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard};

use common::*;
use server::Storage;
use server::connection::{Connection, Identity, Step};
use server::people::tokens::Token;
use server::socket::Socket;
use server::ws::frame;
use shared::ids::RequestId;
use shared::message::{Beat, Body, Command, Event, Message, OpenRoom, RoomRef};
use shared::model::{Member, OpenOutcome, Opened, RoomEvent};
use shared::time::Timestamp;

/// Posts that wait behind the link: more than a connection hands out at once.
const POSTS: usize = 60;
const POST_BYTES: usize = 2_000;
/// Posts that are missed: more than a person is sent one by one.
const MISSED: u64 = 700;
/// What the link carries between two steps once it carries anything.
const TRICKLE_BYTES: usize = 700;

/// The server's end of a link that carries what it is allowed to.
#[derive(Clone, Default)]
struct Link(Arc<Mutex<Ends>>);

#[derive(Default)]
struct Ends {
    up: VecDeque<u8>,
    down: Vec<u8>,
    /// Bytes that may still be written.
    room: usize,
}

impl Link {
    fn ends(&self) -> MutexGuard<'_, Ends> {
        self.0.lock().unwrap()
    }

    fn allow(&self, room: usize) {
        self.ends().room = room;
    }

    /// Takes the whole messages that came down.
    fn messages(&self) -> Vec<Message> {
        let mut ends = self.ends();
        let mut messages = Vec::new();
        while let Some((message, length)) = whole_message(&ends.down) {
            messages.extend(message);
            ends.down.drain(..length);
        }
        messages
    }
}

/// Reads the first frame, where it is whole: its message if it is a text, and its length.
fn whole_message(bytes: &[u8]) -> Option<(Option<Message>, usize)> {
    let (start, length) = match *bytes.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        short @ 0..=125 => (2, usize::from(short)),
        other => panic!("a length that is not expected here: {other}"),
    };
    let payload = bytes.get(start..start + length)?;
    let message = (bytes[0] == 0x81).then(|| Message::parse(std::str::from_utf8(payload).unwrap()).unwrap());
    Some((message, start + length))
}

impl Socket for Link {
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut ends = self.ends();
        let count = buffer.len().min(ends.up.len());
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        buffer.iter_mut().zip(ends.up.drain(..count)).for_each(|(to, from)| *to = from);
        Ok(count)
    }

    fn try_write_vectored(&self, frames: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut ends = self.ends();
        if ends.room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let bytes: Vec<u8> = frames.iter().flat_map(|frame| frame.iter().copied()).take(ends.room).collect();
        ends.room -= bytes.len();
        ends.down.extend(&bytes);
        Ok(bytes.len())
    }

    fn finish(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Somebody who reads over such a link.
struct Reader {
    link: Link,
    connection: Connection<Link>,
    posts: Vec<RoomEvent>,
    /// What was told instead of posts: the room as it is by now.
    jumps: Vec<Opened>,
    typing: usize,
    /// Who came or went.
    presence: Vec<Member>,
    live: bool,
}

impl Reader {
    /// Says hello, follows `general`, and is live.
    async fn enter(server: &Running, user: &User) -> Self {
        Self::enter_with(server, user, fresh(GENERAL)).await
    }

    async fn enter_with(server: &Running, user: &User, ask: OpenRoom) -> Self {
        let mut reader = Self::begin(server, user, ask);
        eventually("the reader is live", || reader.step().live).await;
        reader
    }

    /// Has said hello, which the connection has not read yet.
    fn begin(server: &Running, user: &User, ask: OpenRoom) -> Self {
        let token = Token::read(&user.token).unwrap().hash();
        let identity = Identity { user: user.person.id, token, expires: Timestamp(u64::MAX >> 12) };
        let link = Link::default();
        let app = Arc::clone(&server.app);
        let connection = Connection::new(app, link.clone(), bytes::Bytes::new(), Ok(identity));
        let reader = Self {
            link,
            connection,
            posts: Vec::new(),
            jumps: Vec::new(),
            typing: 0,
            presence: Vec::new(),
            live: false,
        };
        let hello = Message::command(RequestId(1), Command::Hello(hello(&[ask])));
        reader.link.ends().up.extend(frame::masked(0x81, [7; 4], hello.to_json().as_bytes()));
        reader.link.allow(usize::MAX);
        reader
    }

    /// Lets the connection do what it can, and takes what came of it.
    fn step(&mut self) -> &Self {
        assert_ne!(self.connection.step(), Step::Over, "the connection was given up");
        for message in self.link.messages() {
            match message.body {
                Body::Event(Event::Live(_)) => self.live = true,
                Body::Event(Event::Typing(_)) => self.typing += 1,
                Body::Event(Event::Presence(told)) => self.presence.extend(told.changes),
                Body::Event(Event::Room(event)) => self.posts.push(event),
                Body::Event(Event::Opened(opened)) if self.live => self.jumps.push(opened),
                Body::Event(Event::Closing(closing)) => panic!("closed: {closing:?}"),
                _ => {}
            }
        }
        self
    }
}

/// Somebody types; afterwards everybody's connection has been told.
async fn types(user: &User) {
    let (mut client, _) = user.enter().await;
    client.send(Command::Typing(RoomRef { room: GENERAL })).await;
    client.ask(Command::Beat(Beat::default())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_a_thin_link_typing_is_shed_first_and_every_post_arrives() {
    let server = start(&[FAST, &["--slow-timeout-ms=60000"]].concat()).await;
    let (ann, bob) = (server.sign_in("Ann").await, server.sign_in("Bob").await);
    let mut reader = Reader::enter(&server, &server.sign_in("Cid").await).await;
    // Both stay, so that nobody comes or goes meanwhile.
    let ((mut a, at), _stays) = (ann.enter().await, bob.enter().await);
    types(&bob).await;
    eventually("a link with room carries typing", || reader.step().typing == 1).await;

    reader.link.allow(0);
    let sends: Vec<String> = (0..POSTS).map(|n| format!("{n} {}", "x".repeat(POST_BYTES))).collect();
    for body in &sends {
        a.post(post(body)).await.unwrap();
    }
    eventually("posts wait behind the link", || {
        reader.step();
        reader.connection.queued_bytes() > POST_BYTES
    })
    .await;
    let waiting = reader.connection.queued_bytes();
    for _ in 0..3 {
        types(&bob).await;
        reader.step();
    }
    assert_eq!(reader.connection.queued_bytes(), waiting, "something was put behind the posts that wait");

    eventually("every post has come", || {
        reader.link.allow(TRICKLE_BYTES);
        reader.step().posts.len() >= POSTS
    })
    .await;
    assert_eq!(texts(&reader.posts), sends);
    assert!(reader.posts.iter().zip(1..).all(|(event, n)| event.seq.0 == at.seq.0 + n), "the seqs are dense");
    assert_eq!(reader.typing, 1, "typing took room from the posts");

    reader.link.allow(usize::MAX);
    types(&bob).await;
    eventually("with room there is typing again", || reader.step().typing == 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_told_while_a_greeting_is_read_comes_behind_it() {
    // A log in memory answers at once.
    let server = start_with(Storage::Sqlite, FAST).await;
    let (ann, bob) = (server.sign_in("Ann").await, server.sign_in("Bob").await);
    let mut reader = Reader::begin(&server, &ann, fresh(GENERAL));
    // The hello is taken, and the log asked.
    reader.step();
    let told = Arc::new(Member { id: bob.person.id, name: "Bob".to_owned(), online: true });
    server.app.hub.for_followers(GENERAL, |peer| peer.mailbox.presence(&[Arc::clone(&told)]));
    // Letters are looked at before the answer of the log.
    reader.step();
    eventually("the reader is live", || reader.step().live).await;
    eventually("the reader was told", || reader.step().presence.iter().any(|member| member.id == told.id)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn far_behind_on_a_standing_link_a_person_jumps_and_a_program_gets_every_event() {
    let server = start(&[FAST, &["--slow-timeout-ms=60000"]].concat()).await;
    let ann = server.sign_in("Ann").await;
    let mut person = Reader::enter(&server, &server.sign_in("Bob").await).await;
    let replay = OpenRoom { replay: true, ..fresh(GENERAL) };
    let mut program = Reader::enter_with(&server, &server.sign_in("Cid").await, replay).await;
    let (mut a, _) = ann.enter().await;
    let at = a.post(post("before")).await.unwrap().seq;
    for reader in [&mut person, &mut program] {
        eventually("both stand at the head", || reader.step().posts.last().is_some_and(|event| event.seq == at)).await;
        reader.posts.clear();
        reader.link.allow(0);
    }

    let mut last = at;
    for n in 0..MISSED {
        last = a.post(post(&format!("{n}"))).await.unwrap().seq;
        person.step();
        program.step();
    }
    for reader in [&person, &program] {
        reader.link.allow(usize::MAX);
    }
    eventually("the person is told where the room stands", || !person.step().jumps.is_empty()).await;
    match &person.jumps[..] {
        [Opened { outcome: OpenOutcome::Jumped { snapshot, hole }, .. }] => {
            assert_eq!(snapshot.as_of.seq, last);
            let told = person.posts.len() as u64 + hole + snapshot.posts.len() as u64;
            assert_eq!(told, MISSED, "the hole is as large as what is not shown");
        }
        other => panic!("not one jump but {other:?}"),
    }
    eventually("the program has come to the head", || {
        program.step().posts.last().is_some_and(|event| event.seq == last)
    })
    .await;
    assert!(program.posts.iter().zip(at.0 + 1..).all(|(event, seq)| event.seq.0 == seq), "the seqs are dense");
    assert_eq!((program.posts.len() as u64, program.jumps.len()), (MISSED, 0));
}
