//! The table of texts that have something to fill in.
//!
//! Must not live here: texts that are always the same ([`super::word`]). Invariant: one line, one text, both languages. A full stop ends a sentence
//! and nothing else.

use std::borrow::Cow;

use super::{Language, Word};

macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $ty:ty),* } => $en:expr, $zh:expr;)*) => {
        /// A text of the page with what has to be filled in.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the words themselves say it")]
        pub enum Text {
            /// One that has nothing to fill in.
            Plain(Word),
            $($(#[$doc])* $name { $($field: $ty),* },)*
        }

        impl Text {
            /// Says it in English.
            #[must_use]
            pub fn english(&self) -> Cow<'static, str> {
                match self { Self::Plain(word) => Language::English.word(*word).into(), $(Self::$name { $($field),* } => $en.into(),)* }
            }

            /// Says it in Simplified Chinese.
            #[must_use]
            pub fn chinese(&self) -> Cow<'static, str> {
                match self { Self::Plain(word) => Language::Chinese.word(*word).into(), $(Self::$name { $($field),* } => $zh.into(),)* }
            }
        }
    };
}

impl From<Word> for Text {
    fn from(word: Word) -> Self {
        Self::Plain(word)
    }
}

/// The English ending of a plural.
fn s(n: &u64) -> &'static str {
    if *n == 1 { "" } else { "s" }
}

texts! {
    // The connection. `time` is worded by `Local::moment`.
    CatchingUp { n: u64 } => format!("Catching up… {n} to go"), format!("正在同步…还有 {n} 条");
    CantReachShowing { time: String } => format!("Can't reach the server. Showing messages up to {time}."),
        format!("无法连接服务器，当前显示截至 {time} 的消息。");
    RetryingIn { s: u64 } => format!("Retrying in {s} s."), format!("{s} 秒后重试。");
    BackOnline { received: u64, sent: u64 } => match (received, sent) {
            (0, 0) => "Back online.".into(),
            _ => format!("Back online. {received} new, {sent} sent."),
        },
        match (received, sent) {
            (0, 0) => "已恢复连接。".into(),
            _ => format!("已恢复连接。收到 {received} 条新消息，已发送 {sent} 条。"),
        };
    SessionEnded { unsent: u64 } => match unsent {
            0 => "Your session ended. Sign in again.".to_owned(),
            n => format!("Your session ended before {n} message{} {} sent. Sign in again; you can copy {} first.", s(n),
                if *n == 1 { "was" } else { "were" }, if *n == 1 { "it" } else { "them" }),
        }, match unsent {
            0 => "登录已失效，请重新登录。".to_owned(),
            n => format!("登录已失效，有 {n} 条消息未发送。请重新登录，登录前可复制这些消息。"),
        };
    Stopped { why: &'static str } => *why, *why;
    QueuedCount { n: u64 } => format!("{n} waiting to send"), format!("{n} 条等待发送");
    RefusedCount { n: u64 } => format!("{n} not sent"), format!("{n} 条未发送");

    // Posts.
    Hole { n: u64 } => format!("{n} earlier message{} not loaded.", s(n)), format!("还有 {n} 条较早的消息未加载。");
    HistoryPruned { time: String } => format!("Messages before {time} are no longer kept on this server."),
        format!("服务器不再保留 {time} 之前的消息。");
    PostRefused { reason: String } => format!("Not sent: {reason}"), format!("未发送：{reason}");
    JumpToEnd { n: u64 } => format!("↓ {n} new"), format!("↓ {n} 条新消息");
    Beginning { room: String } => format!("This is the beginning of {room}."), format!("这里是 {room} 的开头。");
    Joined { who: String } => format!("{who} joined"), format!("{who} 加入了房间");
    Left { who: String } => format!("{who} left"), format!("{who} 离开了房间");
    KickedOut { who: String, by: String } => format!("{by} removed {who}"), format!("{by} 将 {who} 移出了房间");
    RenamedFrom { was: String, who: String } => format!("{was} is now {who}"), format!("{was} 改名为 {who}");
    RoomCreated { who: String } => format!("{who} created this room"), format!("{who} 创建了房间");

    // Writing.
    ComposerPlaceholder { room: String } => format!("Message {room}"), format!("发消息到 {room}");
    Typing { who: String } => format!("{who} is typing…"), format!("{who} 正在输入…");
    TypingTwo { a: String, b: String } => format!("{a} and {b} are typing…"), format!("{a} 和 {b} 正在输入…");
    TooLong { over: u64 } => format!("{over} character{} too long", s(over)), format!("超出 {over} 个字符");

    // Rooms and people.
    JoinRoom { room: String } => format!("Join {room}"), format!("加入 {room}");
    NotMember { room: String } => format!("You are not in {room} yet."), format!("你还没有加入 {room}。");
    LeaveRoom { room: String } => format!("Leave {room}?"), format!("离开 {room}？");
    NoSuchRoom { room: String } => format!("There is no room called {room}, or you may not see it."),
        format!("没有名为 {room} 的房间，或你无权查看。");
    Members { n: u64 } => format!("{n} member{}", s(n)), format!("{n} 位成员");
    Unread { n: u64 } => format!("{n} unread"), format!("{n} 条未读");

    // Signing in and out.
    NameSuggestion { name: String } => format!("Use {name} instead"), format!("改用 {name}");
    SignOutUnsent { n: u64 } => format!("{n} message{} not sent yet. Signing out discards {}.",
        if *n == 1 { " is" } else { "s are" }, if *n == 1 { "it" } else { "them" }),
        format!("还有 {n} 条消息未发送，退出登录将丢弃这些消息。");

    // The connection panel.
    Milliseconds { ms: u64 } => format!("{ms} ms"), format!("{ms} 毫秒");
    SecondsAgo { s: u64 } => format!("{s} s ago"), format!("{s} 秒前");

    // Components.
    NewMessages { n: u64 } => format!("{n} new messages"), format!("{n} 条新消息");
    NewBelow { n: u64 } => format!("{n} new"), format!("{n} 条新消息");
    ChangeRefused { reason: String } => format!("Not changed: {reason}"), format!("未能修改：{reason}");
    Adopted { n: u64 } => format!("{n} message{} of a closed tab {} sent from here.", s(n), if *n == 1 { "is" } else { "are" }),
        format!("已接管关闭的标签页中的 {n} 条消息，将从此处发送。");
    HereOf { here: u64, all: u64 } => format!("{here} of {all} here"), format!("{all} 位成员，{here} 位在线");
    AndMore { n: u64 } => format!("and {n} more"), format!("另有 {n} 位");
}
