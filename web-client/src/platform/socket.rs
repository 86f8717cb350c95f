//! One WebSocket for each attempt of the session, and the weather it has to stand.
//!
//! Lives here: opening, carrying text, closing, telling the close code. Must not live here: when to try again. Invariant:
//! every attempt that was opened is told closed exactly once, and after that nothing of it is told any more.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use futures_util::{Sink, Stream};
use gloo_net::websocket::{Message, State, WebSocketError, futures::WebSocket};
use gloo_timers::future::TimeoutFuture;
use shared::close;
use shared::ids::AttemptId;
use shared::session::Input;
use wasm_bindgen_futures::spawn_local;

use crate::store::{SLOW_MS, Weather};

/// Messages one socket may have waiting to be written or, in foul weather, to be told. Beyond it the socket is given up.
pub const FRAMES_WAITING: usize = 4_096;

/// Where a socket tells what happened.
pub type Tell = Rc<dyn Fn(Input)>;

/// The sockets of a page: at most one that counts.
pub struct Sockets {
    url: String,
    tell: Tell,
    weather: Rc<Cell<Weather>>,
    current: Option<Line>,
}

/// The driver's end of one socket.
struct Line {
    attempt: AttemptId,
    shared: Rc<Wire>,
}

/// What both ends of one socket share.
struct Wire {
    /// Text to write, oldest first.
    out: RefCell<VecDeque<String>>,
    /// The driver closed it: with which code and words.
    closing: RefCell<Option<(u16, String)>>,
    waker: RefCell<Option<Waker>>,
}

impl Wire {
    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

impl Sockets {
    /// Makes the sockets of a page, to this address (RFC 6455 §3).
    #[must_use]
    pub fn new(url: String, tell: Tell) -> Self {
        Self { url, tell, weather: Rc::default(), current: None }
    }

    /// Opens a socket; what becomes of it is told.
    pub fn open(&mut self, attempt: AttemptId) {
        if let Some(before) = self.current.take() {
            before.hang_up(close::GOING_AWAY, "");
        }
        let shared = Rc::new(Wire { out: RefCell::default(), closing: RefCell::default(), waker: RefCell::default() });
        self.current = Some(Line { attempt, shared: Rc::clone(&shared) });
        let carry = Carry {
            attempt,
            tell: Rc::clone(&self.tell),
            weather: Rc::clone(&self.weather),
            wire: shared,
            out: VecDeque::new(),
            inbox: VecDeque::new(),
            timer: None,
            opened: false,
        };
        let url = self.url.clone();
        spawn_local(async move { carry.run(&url).await });
    }

    /// Writes a message to an attempt's socket; to an older one, nothing.
    pub fn send(&self, attempt: AttemptId, text: String) {
        let Some(line) = self.current.as_ref().filter(|line| line.attempt == attempt) else { return };
        if line.shared.out.borrow().len() >= FRAMES_WAITING {
            line.hang_up(close::SLOW, "too much is waiting to be written");
            return;
        }
        line.shared.out.borrow_mut().push_back(text);
        line.shared.wake();
    }

    /// Closes an attempt's socket. It is told closed at once: an offline browser would take minutes.
    pub fn close(&mut self, attempt: AttemptId, code: u16, reason: &str) {
        if let Some(line) = self.current.take_if(|line| line.attempt == attempt) {
            line.hang_up(code, reason);
        }
    }

    /// Changes what the present and later sockets suffer.
    pub fn set_weather(&self, weather: Weather) {
        self.weather.set(weather);
        if let Some(line) = &self.current {
            line.shared.wake();
        }
    }
}

impl Line {
    fn hang_up(&self, code: u16, reason: &str) {
        self.shared.closing.borrow_mut().get_or_insert_with(|| (code, reason.to_owned()));
        self.shared.wake();
    }
}

/// The socket's end: the task that carries messages both ways until it is closed.
struct Carry {
    attempt: AttemptId,
    tell: Tell,
    weather: Rc<Cell<Weather>>,
    wire: Rc<Wire>,
    /// Held by slow weather until its time, oldest first.
    out: VecDeque<(f64, String)>,
    inbox: VecDeque<(f64, String)>,
    /// When it is due, and the timer for it.
    timer: Option<(f64, TimeoutFuture)>,
    opened: bool,
}

/// How a socket ended.
struct End {
    code: u16,
    reason: String,
}

impl End {
    fn broken(reason: &str) -> Self {
        Self { code: close::ABNORMAL, reason: reason.to_owned() }
    }
}

impl Carry {
    async fn run(mut self, url: &str) {
        let fair = poll_fn(|cx| self.poll_weather(cx)).await;
        let (mut socket, end) =
            match fair.and_then(|()| WebSocket::open(url).map_err(|error| End::broken(&error.message))) {
                Err(end) => (None, end),
                Ok(mut socket) => {
                    let end = poll_fn(|cx| self.poll(&mut socket, cx)).await;
                    (Some(socket), end)
                }
            };
        let closing = self.wire.closing.borrow().clone();
        if let (Some(socket), Some((code, reason))) = (socket.take(), &closing) {
            // A page may send 1000 and 3000–4999 only (WHATWG WebSockets §3.1).
            let code = if (3_000..=4_999).contains(code) { *code } else { close::NORMAL };
            let _ = socket.close(Some(code), Some(close::fit_reason(reason)));
        }
        let end = closing.map_or(end, |(code, reason)| End { code, reason });
        (self.tell)(Input::Closed { attempt: self.attempt, code: end.code, reason: end.reason });
    }

    /// Ready once the weather lets a socket be opened, or is not going to.
    fn poll_weather(&self, cx: &Context<'_>) -> Poll<Result<(), End>> {
        *self.wire.waker.borrow_mut() = Some(cx.waker().clone());
        if self.wire.closing.borrow().is_some() {
            return Poll::Ready(Err(End::broken("")));
        }
        match self.weather.get() {
            Weather::Cut => Poll::Ready(Err(End::broken("cut by the weather switch"))),
            Weather::Frozen => Poll::Pending,
            Weather::Fair | Weather::Slow => Poll::Ready(Ok(())),
        }
    }

    /// Carries what can be carried now; ready once the socket has ended.
    fn poll(&mut self, socket: &mut WebSocket, cx: &mut Context<'_>) -> Poll<End> {
        *self.wire.waker.borrow_mut() = Some(cx.waker().clone());
        if self.wire.closing.borrow().is_some() {
            return Poll::Ready(End::broken(""));
        }
        let weather = self.weather.get();
        match weather {
            Weather::Cut => return Poll::Ready(End::broken("cut by the weather switch")),
            Weather::Frozen => return Poll::Pending,
            Weather::Fair | Weather::Slow => {}
        }
        let now = js_sys::Date::now();
        let delay = if weather == Weather::Slow { f64::from(SLOW_MS) } else { 0.0 };
        if let Some(end) = self.poll_in(socket, now + delay, cx) {
            return Poll::Ready(end);
        }
        while self.inbox.front().is_some_and(|(due, _)| *due <= now) {
            let Some((_, text)) = self.inbox.pop_front() else { break };
            (self.tell)(Input::Received { attempt: self.attempt, text });
        }
        self.out.extend(self.wire.out.borrow_mut().drain(..).map(|text| (now + delay, text)));
        if Pin::new(&mut *socket).poll_ready(cx).is_ready() && matches!(socket.state(), State::Open) {
            if !self.opened {
                self.opened = true;
                (self.tell)(Input::Opened { attempt: self.attempt });
            }
            while self.out.front().is_some_and(|(due, _)| *due <= now) {
                let Some((_, text)) = self.out.pop_front() else { break };
                if Pin::new(&mut *socket).start_send(Message::Text(text)).is_err() {
                    return Poll::Ready(End::broken("the browser did not take a message"));
                }
            }
        }
        self.poll_timer(now, cx);
        Poll::Pending
    }

    /// Reads what came; returns how the socket ended, if it did.
    fn poll_in(&mut self, socket: &mut WebSocket, due: f64, cx: &mut Context<'_>) -> Option<End> {
        loop {
            match Pin::new(&mut *socket).poll_next(cx) {
                Poll::Pending => return None,
                Poll::Ready(Some(Ok(Message::Text(text)))) => self.inbox.push_back((due, text)),
                Poll::Ready(Some(Ok(Message::Bytes(_)))) => {
                    *self.wire.closing.borrow_mut() = Some((close::BAD_SEQUENCE, "a binary message came".into()));
                    return Some(End::broken(""));
                }
                // A close event follows an error event, and tells more.
                Poll::Ready(Some(Err(WebSocketError::ConnectionError))) => {}
                Poll::Ready(Some(Err(WebSocketError::ConnectionClose(event)))) => {
                    self.tell_what_came();
                    return Some(End { code: event.code, reason: event.reason });
                }
                Poll::Ready(Some(Err(error))) => return Some(End::broken(&error.to_string())),
                Poll::Ready(None) => return Some(End::broken("")),
            }
            if self.inbox.len() > FRAMES_WAITING {
                return Some(End::broken("too much is waiting to be told"));
            }
        }
    }

    /// Tells what came before the close, such as the server's reason for it.
    fn tell_what_came(&mut self) {
        for (_, text) in self.inbox.drain(..) {
            (self.tell)(Input::Received { attempt: self.attempt, text });
        }
    }

    /// Waits for the first message that slow weather holds.
    fn poll_timer(&mut self, now: f64, cx: &mut Context<'_>) {
        let due = [self.out.front(), self.inbox.front()].into_iter().flatten().map(|(due, _)| *due).reduce(f64::min);
        let Some(due) = due.filter(|due| *due > now) else {
            self.timer = None;
            return;
        };
        // A timer that is dropped wakes the task: one that still fits is kept, or this would never rest.
        let timer = match self.timer.take().filter(|(set_for, _)| *set_for == due) {
            Some((_, timer)) => timer,
            None => TimeoutFuture::new((due - now).ceil() as u32),
        };
        let (_, timer) = self.timer.insert((due, timer));
        if Pin::new(timer).poll(cx).is_ready() {
            self.timer = None;
            cx.waker().wake_by_ref();
        }
    }
}
