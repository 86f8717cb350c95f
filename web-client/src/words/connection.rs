//! What happened to the connection, in words: states, close codes, the lines of the panel's timeline.
//!
//! Must not live here: what follows from a code (`shared::close`). Invariant: every code of the registry is worded in
//! both languages.

use shared::close::{self, StopReason};
use shared::session::{ConnectionState, Happened};

use super::{Language, reset_words};

/// Returns a state's name for programs: `data-state` and the diagnostics.
#[must_use]
pub const fn state_name(state: &ConnectionState) -> &'static str {
    match state {
        ConnectionState::Idle => "idle",
        ConnectionState::Connecting => "connecting",
        ConnectionState::CatchingUp { .. } => "catching_up",
        ConnectionState::Live => "live",
        ConnectionState::Slow => "slow",
        ConnectionState::Waiting { .. } => "waiting",
        ConnectionState::Trying { .. } => "trying",
        ConnectionState::Offline => "offline",
        ConnectionState::Stopped(_) => "stopped",
    }
}

/// Says why the session stopped and what to do.
#[must_use]
pub const fn stop_words(language: Language, reason: StopReason) -> &'static str {
    let (english, chinese) = match reason {
        StopReason::SignedOut => ("Your session ended.", "登录已失效。"),
        StopReason::Superseded => {
            ("This page's connection was taken over by a newer one.", "此页面的连接已被新的连接取代。")
        }
        StopReason::Banned => ("An operator has barred you from this server.", "管理员已禁止你使用此服务器。"),
        StopReason::BadVersion => ("This page is too old for the server. Reload it.", "页面版本过旧，请刷新。"),
        StopReason::TooManyConnections => {
            ("You have too many pages open. Close one and retry.", "打开的页面过多，请关闭一个后重试。")
        }
        StopReason::Other => ("The server asked this page to stop. Reload it.", "服务器要求此页面停止，请刷新。"),
    };
    match language {
        Language::English => english,
        Language::Chinese => chinese,
    }
}

/// Says what a close code means.
#[must_use]
pub fn close_words(language: Language, code: u16) -> String {
    let chinese = match code {
        close::NORMAL => "连接正常关闭。",
        close::GOING_AWAY => "对方已离开。",
        close::PROTOCOL => "有一帧违反了 WebSocket 协议。",
        close::UNSUPPORTED => "收到了二进制帧，而预期为文本。",
        close::NO_STATUS => "连接已关闭，未说明原因。",
        close::ABNORMAL => "连接意外中断。",
        close::INVALID_UTF8 => "文本帧不是有效的 UTF-8。",
        close::POLICY => "对方拒绝了发送的内容。",
        close::TOO_LARGE => "消息超过了服务器的上限。",
        close::SERVER_ERROR => "服务器遇到意外错误。",
        close::RESTART => "服务器正在重启。",
        close::TRY_LATER => "服务器暂时没有余量。",
        close::SLOW => "此连接长时间没有读取数据。",
        close::NO_HEARTBEAT => "长时间没有收到任何数据。",
        close::HELLO_TIMEOUT => "首条消息未及时到达。",
        close::FLOOD => "短时间内消息过多。",
        close::BAD_SEQUENCE => "收到了协议不允许的消息。",
        close::CONNECT_TIMEOUT => "服务器未及时响应。",
        close::STORAGE_STOPPED => "服务器因存储故障而停止。",
        close::SUPERSEDED => "同一会话重新建立了连接。",
        close::SESSION_EXPIRED => "登录已过期。",
        close::SESSION_REVOKED => "登录已被终止。",
        close::BANNED => "管理员已禁止此用户。",
        close::BAD_VERSION => "客户端与服务器没有共同的协议版本。",
        close::TOO_MANY => "此用户打开的连接过多。",
        _ => "未知的关闭代码。",
    };
    match language {
        Language::English => {
            close::lookup(code).map_or("A close code this version does not know.", |known| known.words)
        }
        Language::Chinese => chinese,
    }
    .to_owned()
}

/// Says one line of the panel's timeline.
#[must_use]
pub fn happened(language: Language, what: &Happened) -> String {
    match language {
        Language::English => happened_english(what),
        Language::Chinese => happened_chinese(what),
    }
}

fn happened_english(what: &Happened) -> String {
    match what {
        Happened::Attempted => "Trying to connect".into(),
        Happened::Opened => "Socket open".into(),
        Happened::Welcomed { connection } => format!("Welcomed as connection {connection}"),
        Happened::Resumed { missed } => format!("Resumed; {missed} missed"),
        Happened::ResetRoom { reason, .. } => reset_words(Language::English, *reason).into(),
        Happened::Live => "Caught up".into(),
        Happened::Deduplicated { events } => format!("{events} came twice, shown once"),
        Happened::Gap { expected, got, .. } => format!("Expected {expected}, got {got}; asked again"),
        Happened::HeartbeatMissed => "A heartbeat was not answered in time".into(),
        Happened::AckLate => "A confirmation is late".into(),
        Happened::Draining => "The server announced a restart".into(),
        Happened::Closed { code, reason, by_us } => {
            let who = if *by_us { "by this page" } else { "by the other side" };
            let words = close_words(Language::English, *code);
            format!("Closed {who}, {code}: {words}{}", quoted(reason, " (“", "”)"))
        }
        Happened::Waiting { ms } => format!("Waiting {}.{} s", ms / 1_000, ms % 1_000 / 100),
        Happened::Online(true) => "The device is online".into(),
        Happened::Online(false) => "The device is offline".into(),
        Happened::Visible(true) => "Page shown".into(),
        Happened::Visible(false) => "Page hidden".into(),
        Happened::Woke => "Woke from sleep".into(),
        Happened::Unreadable { why } => format!("A message could not be read: {why}"),
    }
}

fn happened_chinese(what: &Happened) -> String {
    match what {
        Happened::Attempted => "正在尝试连接".into(),
        Happened::Opened => "套接字已打开".into(),
        Happened::Welcomed { connection } => format!("已接入，连接编号 {connection}"),
        Happened::Resumed { missed } => format!("已续接，错过 {missed} 条"),
        Happened::ResetRoom { reason, .. } => reset_words(Language::Chinese, *reason).into(),
        Happened::Live => "已同步".into(),
        Happened::Deduplicated { events } => format!("{events} 条重复，仅显示一次"),
        Happened::Gap { expected, got, .. } => format!("预期 {expected}，收到 {got}；已重新请求"),
        Happened::HeartbeatMissed => "心跳未及时得到回应".into(),
        Happened::AckLate => "确认延迟".into(),
        Happened::Draining => "服务器即将重启".into(),
        Happened::Closed { code, reason, by_us } => {
            let who = if *by_us { "由此页面关闭" } else { "由对方关闭" };
            let words = close_words(Language::Chinese, *code);
            format!("{who}，{code}：{words}{}", quoted(reason, "（“", "”）"))
        }
        Happened::Waiting { ms } => format!("等待 {}.{} 秒", ms / 1_000, ms % 1_000 / 100),
        Happened::Online(true) => "设备已联网".into(),
        Happened::Online(false) => "设备已离线".into(),
        Happened::Visible(true) => "页面可见".into(),
        Happened::Visible(false) => "页面已隐藏".into(),
        Happened::Woke => "从休眠中恢复".into(),
        Happened::Unreadable { why } => format!("有一条消息无法读取：{why}"),
    }
}

fn quoted(reason: &str, open: &str, close: &str) -> String {
    if reason.is_empty() { String::new() } else { format!("{open}{reason}{close}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_close_code_is_worded_in_both_languages() {
        for meaning in close::REGISTRY {
            assert_eq!(close_words(Language::English, meaning.code), meaning.words);
            assert_ne!(
                close_words(Language::Chinese, meaning.code),
                close_words(Language::Chinese, 3_999),
                "{}",
                meaning.name
            );
        }
    }

    #[test]
    fn a_close_is_told_with_who_code_and_meaning() {
        let closed = Happened::Closed { code: 1012, reason: "drain".into(), by_us: false };
        assert_eq!(
            happened(Language::English, &closed),
            "Closed by the other side, 1012: The server is restarting. (“drain”)"
        );
        assert_eq!(happened(Language::Chinese, &closed), "由对方关闭，1012：服务器正在重启。（“drain”）");
    }
}
