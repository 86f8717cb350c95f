//! The table of words: every text of the page that has nothing to fill in.
//!
//! Must not live here: anything but words. Invariant: one line, one text, both languages. A full stop ends a sentence
//! and nothing else.

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident => $en:literal, $zh:literal;)*) => {
        /// A text of the page that is always the same.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the words themselves say it")]
        pub enum Word {
            $($(#[$doc])* $name,)*
        }

        /// English and Simplified Chinese, in the order of [`Word`].
        static WORDS: &[[&str; 2]] = &[$([$en, $zh],)*];
    };
}

impl Word {
    /// Returns it in English and in Simplified Chinese.
    #[must_use]
    pub fn both(self) -> [&'static str; 2] {
        WORDS[self as usize]
    }
}

words! {
    // The connection. `time` is worded by `Local::moment`.
    Connecting => "Connecting…", "正在连接…";
    Reconnecting => "Reconnecting…", "正在重新连接…";
    CatchingUpUnknown => "Catching up…", "正在同步…";
    CantReach => "Can't reach the server.", "无法连接服务器。";
    CantReachTrying => "Can't reach the server. Trying now…", "无法连接服务器，正在重试…";
    Offline => "You're offline. You can keep writing; messages are saved on this device and sent when you're back.",
        "当前处于离线状态。可以继续输入，消息会保存在本设备，联网后自动发送。";
    /// Offline where the device cannot keep anything: must not promise that it does.
    OfflineNoStorage => "You're offline. You can keep writing; keep this tab open until your messages are sent.",
        "当前处于离线状态。可以继续输入，发送完成前请勿关闭此页面。";
    ServerSlow => "The server is slow to answer. Your messages are kept and will be confirmed.",
        "服务器响应较慢。消息已保存，确认后会显示。";
    Restarting => "The server is restarting. Back in a moment.", "服务器正在重启，马上恢复。";
    NewVersion => "A new version is ready. Drafts and unsent messages are kept.",
        "新版本已就绪，草稿和未发送的消息会保留。";
    NoStorage => "This browser can't store unsent messages. Keep this tab open until they're sent.",
        "此浏览器无法保存未发送的消息，发送完成前请勿关闭此页面。";
    SomebodyElse => "Another tab signed in as somebody else, so this page has stopped.",
        "另一个标签页以其他身份登录，此页面已停止。";
    RetryNow => "Retry now", "立即重试";
    SignInAgain => "Sign in", "登录";
    Reload => "Reload", "刷新";

    // Posts.
    Load => "Load", "加载";
    Loading => "Loading…", "正在加载…";
    PostQueued => "Saved here, waiting to send", "已保存在本设备，等待发送";
    PostWaiting => "Waiting to send", "等待发送";
    PostSending => "Sending…", "发送中…";
    PostSent => "Sent", "已发送";
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
    JumpToEndPlain => "↓ Newest", "↓ 最新消息";
    EmptyRoom => "Nothing here yet. Say hello.", "还没有消息，打个招呼吧。";
    RoomEnded => "This room was closed.", "此房间已关闭。";
    Today => "Today", "今天";
    Yesterday => "Yesterday", "昨天";

    // Writing.
    Send => "Send", "发送";
    SaveEdit => "Save", "保存";
    Editing => "Editing a message", "正在编辑消息";
    TypingMany => "Several people are typing…", "多人正在输入…";
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
    Leave => "Leave", "离开";
    People => "People", "成员";
    Here => "here", "在线";
    Away => "away", "离开";
    You => "you", "你";
    MarkAllRead => "Mark read", "标为已读";
    HasDraft => "Draft", "草稿";
    More => "More", "更多";
    NoRooms => "No rooms yet.", "还没有房间。";
    SwitchRoom => "Go to room", "切换房间";

    // Signing in and out.
    SignInTitle => "Pick a name and start chatting", "取个名字，开始聊天";
    YourName => "Your name", "你的名字";
    SignIn => "Start chatting", "开始聊天";
    KeptTitle => "Not sent, kept on this device", "未发送，已保留在本设备";
    KeptMeans => "Signing in makes you a new person here, so these can't be sent for you. Copy what you need.",
        "重新登录后你将是新的用户，这些内容无法代为发送，请复制需要的部分。";
    Discard => "Discard", "丢弃";
    ServerUnreachable => "The server can't be reached. Check your connection and try again.",
        "无法连接服务器，请检查网络后重试。";
    SignOut => "Sign out", "退出登录";
    SignOutMeans => "Your name stays with what you wrote: nobody can sign in with it again, not even you.",
        "你的名字将只属于你已发布的消息，任何人（包括你自己）都不能再用它登录。";
    SignOutAndDiscard => "Discard and sign out", "丢弃并退出";
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
    LastFrame => "Last message from the server", "最近收到服务器消息";
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
    StateSlow => "Connected, slow to answer", "已连接，响应较慢";
    StateOffline => "Offline", "离线";
    StateStopped => "Disconnected", "已断开";
    Newest => "Newest", "最新消息";
    EditPending => "Saving the edit…", "正在保存修改…";
    DeletePending => "Deleting…", "正在删除…";
    DeleteAsk => "Delete?", "确认删除？";
    YouAreIn => "You are in this room", "你已加入";
    LeaveMeans => "You can join again at any time.", "之后可以随时重新加入。";
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
