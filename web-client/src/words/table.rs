//! The table of texts.
//!
//! Must not live here: anything but words. Invariant: one line, one text, both languages. A full stop ends a sentence
//! and nothing else.

use std::borrow::Cow;

macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident $({ $($field:ident: $ty:ty),* })? => $en:expr, $zh:expr;)*) => {
        /// A text of the page with what has to be filled in.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the words themselves say it")]
        pub enum Text {
            $($(#[$doc])* $name $({ $($field: $ty),* })?,)*
        }

        impl Text {
            /// Says it in English.
            #[must_use]
            pub fn english(&self) -> Cow<'static, str> {
                match self { $(Self::$name $({ $($field),* })? => $en.into(),)* }
            }

            /// Says it in Simplified Chinese.
            #[must_use]
            pub fn chinese(&self) -> Cow<'static, str> {
                match self { $(Self::$name $({ $($field),* })? => $zh.into(),)* }
            }
        }
    };
}

/// The English ending of a plural.
fn s(n: &u64) -> &'static str {
    if *n == 1 { "" } else { "s" }
}

texts! {
    // The connection. `time` is worded by `Local::moment`.
    Connecting => "Connecting…", "正在连接…";
    Reconnecting => "Reconnecting…", "正在重新连接…";
    CatchingUp { n: u64 } => format!("Catching up… {n} to go"), format!("正在同步…还有 {n} 条");
    CatchingUpUnknown => "Catching up…", "正在同步…";
    CantReach => "Can't reach the server.", "无法连接服务器。";
    CantReachShowing { time: String } => format!("Can't reach the server. Showing messages up to {time}."),
        format!("无法连接服务器，当前显示截至 {time} 的消息。");
    RetryingIn { s: u64 } => format!("Retrying in {s} s."), format!("{s} 秒后重试。");
    CantReachTrying => "Can't reach the server. Trying now…", "无法连接服务器，正在重试…";
    Offline => "You're offline. You can keep writing; messages are saved on this device and sent when you're back.",
        "当前处于离线状态。可以继续输入，消息会保存在本设备，联网后自动发送。";
    /// Offline where the device cannot keep anything: must not promise that it does.
    OfflineNoStorage => "You're offline. You can keep writing; keep this tab open until your messages are sent.",
        "当前处于离线状态。可以继续输入，发送完成前请勿关闭此页面。";
    ServerSlow => "The server is slow to answer. Your messages are kept and will be confirmed.",
        "服务器响应较慢。消息已保存，确认后会显示。";
    Restarting => "The server is restarting. Back in a moment.", "服务器正在重启，马上恢复。";
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
    NewVersion => "A new version is ready. Drafts and unsent messages are kept.",
        "新版本已就绪，草稿和未发送的消息会保留。";
    NoStorage => "This browser can't store unsent messages. Keep this tab open until they're sent.",
        "此浏览器无法保存未发送的消息，发送完成前请勿关闭此页面。";
    SomebodyElse => "Another tab signed in as somebody else, so this page has stopped.",
        "另一个标签页以其他身份登录，此页面已停止。";
    Stopped { why: &'static str } => *why, *why;
    RetryNow => "Retry now", "立即重试";
    SignInAgain => "Sign in", "登录";
    Reload => "Reload", "刷新";
    QueuedCount { n: u64 } => format!("{n} waiting to send"), format!("{n} 条等待发送");
    RefusedCount { n: u64 } => format!("{n} not sent"), format!("{n} 条未发送");

    // Posts.
    Hole { n: u64 } => format!("{n} earlier message{} not loaded.", s(n)), format!("还有 {n} 条较早的消息未加载。");
    Load => "Load", "加载";
    Loading => "Loading…", "正在加载…";
    HistoryPruned { time: String } => format!("Messages before {time} are no longer kept on this server."),
        format!("服务器不再保留 {time} 之前的消息。");
    PostQueued => "Saved here, waiting to send", "已保存在本设备，等待发送";
    PostWaiting => "Waiting to send", "等待发送";
    PostSending => "Sending…", "发送中…";
    PostSent => "Sent", "已发送";
    PostRefused { reason: String } => format!("Not sent: {reason}"), format!("未发送：{reason}");
    PostEdited => "edited", "已编辑";
    PostDeleted => "This message was deleted.", "此消息已删除。";
    PostUnknown => "Something this version cannot show. Reload for a newer one.", "此版本无法显示该内容，请刷新以获取新版本。";
    Retry => "Retry", "重试";
    Edit => "Edit", "编辑";
    Copy => "Copy", "复制";
    Delete => "Delete", "删除";
    Cancel => "Cancel", "取消";
    React => "React", "回应";
    NewDivider => "New", "新消息";
    JumpToEnd { n: u64 } => format!("↓ {n} new"), format!("↓ {n} 条新消息");
    JumpToEndPlain => "↓ Newest", "↓ 最新消息";
    Beginning { room: String } => format!("This is the beginning of {room}."), format!("这里是 {room} 的开头。");
    EmptyRoom => "Nothing here yet. Say hello.", "还没有消息，打个招呼吧。";
    Joined { who: String } => format!("{who} joined"), format!("{who} 加入了房间");
    Left { who: String } => format!("{who} left"), format!("{who} 离开了房间");
    KickedOut { who: String, by: String } => format!("{by} removed {who}"), format!("{by} 将 {who} 移出了房间");
    RenamedFrom { was: String, who: String } => format!("{was} is now {who}"), format!("{was} 改名为 {who}");
    RoomCreated { who: String } => format!("{who} created this room"), format!("{who} 创建了房间");
    RoomEnded => "This room was closed.", "此房间已关闭。";
    Today => "Today", "今天";
    Yesterday => "Yesterday", "昨天";

    // Writing.
    ComposerPlaceholder { room: String } => format!("Message {room}"), format!("发消息到 {room}");
    Send => "Send", "发送";
    SaveEdit => "Save", "保存";
    Editing => "Editing a message", "正在编辑消息";
    Typing { who: String } => format!("{who} is typing…"), format!("{who} 正在输入…");
    TypingTwo { a: String, b: String } => format!("{a} and {b} are typing…"), format!("{a} 和 {b} 正在输入…");
    TypingMany => "Several people are typing…", "多人正在输入…";
    TooLong { over: u64 } => format!("{over} character{} too long", s(over)), format!("超出 {over} 个字符");
    OutboxFull => "Too many messages are waiting. Nothing was lost; try again once some are sent.",
        "等待发送的消息过多。内容未丢失，请在部分消息发送后重试。";

    // Rooms and people.
    Rooms => "Rooms", "房间";
    BrowseRooms => "Browse rooms", "浏览房间";
    FilterRooms => "Filter by name or topic", "按名称或主题筛选";
    NoRoomMatches => "No listed room matches.", "列表中没有匹配的房间。";
    CreateRoom => "New room", "新建房间";
    RoomName => "Room name", "房间名称";
    RoomTitle => "What is it about? (optional)", "房间主题（可选）";
    Create => "Create", "创建";
    Join => "Join", "加入";
    JoinRoom { room: String } => format!("Join {room}"), format!("加入 {room}");
    NotMember { room: String } => format!("You are not in {room} yet."), format!("你还没有加入 {room}。");
    Leave => "Leave", "离开";
    LeaveRoom { room: String } => format!("Leave {room}?"), format!("离开 {room}?");
    NoSuchRoom { room: String } => format!("There is no room called {room}, or you may not see it."),
        format!("没有名为 {room} 的房间，或你无权查看。");
    Members { n: u64 } => format!("{n} member{}", s(n)), format!("{n} 位成员");
    People => "People", "成员";
    Here => "here", "在线";
    Away => "away", "离开";
    You => "you", "你";
    Unread { n: u64 } => format!("{n} unread"), format!("{n} 条未读");
    MarkAllRead => "Mark read", "标为已读";
    HasDraft => "Draft", "草稿";
    More => "More", "更多";
    NoRooms => "No rooms yet.", "还没有房间。";
    SwitchRoom => "Go to room", "切换房间";

    // Signing in and out.
    SignInTitle => "Pick a name and start chatting", "取个名字，开始聊天";
    YourName => "Your name", "你的名字";
    SignIn => "Start chatting", "开始聊天";
    NameSuggestion { name: String } => format!("Use {name} instead"), format!("改用 {name}");
    KeptTitle => "Not sent, kept on this device", "未发送，已保留在本设备";
    KeptMeans => "Signing in makes you a new person here, so these can't be sent for you. Copy what you need.",
        "重新登录后你将是新的用户，这些内容无法代为发送，请复制需要的部分。";
    Discard => "Discard", "丢弃";
    ServerUnreachable => "The server can't be reached. Check your connection and try again.",
        "无法连接服务器，请检查网络后重试。";
    SignOut => "Sign out", "退出登录";
    SignOutUnsent { n: u64 } => format!("{n} message{} not sent yet. Signing out discards {}.",
        if *n == 1 { " is" } else { "s are" }, if *n == 1 { "it" } else { "them" }),
        format!("还有 {n} 条消息未发送，退出登录将丢弃这些消息。");
    SignOutAndDiscard => "Discard and sign out", "丢弃并退出";
    StaySignedIn => "Stay until they are sent", "等待发送完成";
    Rename => "Change name", "修改名字";
    NewName => "New name", "新名字";
    Save => "Save", "保存";

    // Around.
    Language => "Language", "语言";
    Theme => "Appearance", "外观";
    ThemeSystem => "System", "跟随系统";
    ThemeLight => "Light", "浅色";
    ThemeDark => "Dark", "深色";
    Close => "Close", "关闭";
    Back => "Back", "返回";
    Menu => "Menu", "菜单";
    SkipToMessages => "Skip to messages", "跳到消息";
    Messages => "Messages", "消息";
    Help => "Help", "帮助";
    Shortcuts => "Keyboard shortcuts", "键盘快捷键";
    Copied => "Copied", "已复制";
    Dismiss => "Dismiss", "知道了";

    // The connection panel.
    Connection => "Connection", "连接";
    RoundTrip => "Round trip", "往返时间";
    Milliseconds { ms: u64 } => format!("{ms} ms"), format!("{ms} 毫秒");
    LastFrame => "Last message from the server", "最近收到服务器消息";
    SecondsAgo { s: u64 } => format!("{s} s ago"), format!("{s} 秒前");
    Attempt => "Attempt", "尝试次数";
    ConnectionNumber => "Connection number", "连接编号";
    ServerBuild => "Server", "服务器";
    PageBuild => "This page", "此页面";
    Timeline => "What happened", "连接记录";
    CopyDiagnostics => "Copy diagnostics", "复制诊断信息";
    Weather => "Weather (for trying out)", "网络模拟（试用）";
    WeatherFair => "Fair", "正常";
    WeatherCut => "Cut", "断开";
    WeatherFrozen => "Frozen", "冻结";
    WeatherSlow => "Slow", "缓慢";
    NotYet => "not yet", "暂无";

    // Components.
    RestartingShort => "Restarting…", "正在重启…";
    StateLive => "Connected", "已连接";
    StateTrying => "Reconnecting", "正在重新连接";
    StateOffline => "Offline", "离线";
    StateStopped => "Disconnected", "已断开";
    NewMessages { n: u64 } => format!("{n} new messages"), format!("{n} 条新消息");
    NewBelow { n: u64 } => format!("{n} new"), format!("{n} 条新消息");
    Newest => "Newest", "最新消息";
    EditPending => "Saving the edit…", "正在保存修改…";
    DeletePending => "Deleting…", "正在删除…";
    ChangeRefused { reason: String } => format!("Not changed: {reason}"), format!("未能修改：{reason}");
    DeleteAsk => "Delete?", "确认删除？";
    Adopted { n: u64 } => format!("{n} message{} of a closed tab {} sent from here.", s(n), if *n == 1 { "is" } else { "are" }),
        format!("已接管关闭的标签页中的 {n} 条消息，将从此处发送。");
    HereOf { here: u64, all: u64 } => format!("{here} of {all} here"), format!("{all} 位成员，{here} 位在线");
    AndMore { n: u64 } => format!("and {n} more"), format!("另有 {n} 位");
    YouAreIn => "You are in this room", "你已加入";
    LeaveMeans => "You can join again at any time.", "之后可以随时重新加入。";
    ChooseRoom => "Choose a room.", "请选择一个房间。";
    Unsent => "Waiting", "等待发送";
    Refused => "Not sent", "未发送";
    KeySend => "Send", "发送";
    KeyNewLine => "New line", "换行";
    KeyEditLast => "Edit your last message", "编辑你的上一条消息";
    KeyRooms => "Next or previous room", "切换到上一个或下一个房间";
    KeyUnread => "Next or previous unread room", "切换到上一个或下一个未读房间";
    KeyRegions => "Next part of the page", "切换到页面的下一区域";
    KeyMessages => "Move through the messages", "逐条浏览消息";
    KeyNewest => "To the newest message", "跳到最新消息";
    KeyMarkRead => "Mark the room read", "将房间标为已读";
    KeyHelp => "This help", "显示此帮助";
}
