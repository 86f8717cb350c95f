//! Error codes and reset reasons in words.
//!
//! Must not live here: deciding what to do about them. Invariant: every known code is worded in both languages; only a
//! code of a newer server falls back to the server's own words.

use shared::error::{ErrorCode, WireError};
use shared::model::ResetReason;

use super::Language;

/// Says why a request was refused.
#[must_use]
pub fn error_words(language: Language, error: &WireError) -> String {
    let (english, chinese) = match &error.code {
        ErrorCode::BadMessage => ("The server could not read this.", "服务器无法读取该请求。"),
        ErrorCode::UnknownCommand => ("This server is too old for that.", "服务器版本过旧，不支持此操作。"),
        ErrorCode::BadSequence => ("That came at the wrong moment.", "请求顺序有误。"),
        ErrorCode::BadVersion => ("This page is too old for the server. Reload it.", "页面版本过旧，请刷新。"),
        ErrorCode::SignedOut => ("You are signed out.", "你已退出登录。"),
        ErrorCode::BadOrigin => {
            ("The server does not accept pages from this address.", "服务器不接受来自此地址的页面。")
        }
        ErrorCode::NameInvalid => {
            ("This name is empty, too long, or has characters names can't have.", "名称为空、过长或包含不允许的字符。")
        }
        ErrorCode::NameTaken => {
            ("This name is taken, or looks like one that is.", "该名称已被使用，或与已有名称过于相似。")
        }
        ErrorCode::NotFound => ("It is not there, or you may not see it.", "内容不存在，或你无权查看。"),
        ErrorCode::NotMember => ("You are not in this room.", "你不在此房间中。"),
        ErrorCode::Forbidden => ("You may not do this.", "你无权执行此操作。"),
        ErrorCode::PostEmpty => ("There is nothing in it to see.", "消息没有可见内容。"),
        ErrorCode::PostTooLong => ("It is too long.", "消息过长。"),
        ErrorCode::IdConflict => ("Its number was already used for something else.", "消息编号已被其他内容使用。"),
        ErrorCode::LimitReached => ("A limit of this server is reached.", "已达到服务器的上限。"),
        ErrorCode::RateLimited => ("Too fast. Wait a moment.", "操作过快，请稍候。"),
        ErrorCode::Behind => ("It waits for an earlier message.", "正在等待之前的消息。"),
        ErrorCode::StorageFull => (
            "The server's disk is full. It goes on by itself once there is room.",
            "服务器磁盘已满，腾出空间后会自动继续。",
        ),
        ErrorCode::Unavailable => ("The server can't do this at the moment.", "服务器暂时无法处理。"),
        ErrorCode::Internal => ("The server made a mistake.", "服务器内部错误。"),
        ErrorCode::Unknown(_) => return error.message.clone(),
    };
    match language {
        Language::English => english.to_owned(),
        Language::Chinese => chinese.to_owned(),
    }
}

/// Says why a room started over.
#[must_use]
pub fn reset_words(language: Language, reason: ResetReason) -> &'static str {
    let (english, chinese) = match reason {
        ResetReason::Epoch => (
            "This server keeps another history now. The room was loaded anew.",
            "服务器已更换历史记录，房间已重新加载。",
        ),
        ResetReason::Ahead => (
            "The server was restored from an older state. The room was loaded anew.",
            "服务器已恢复到较早的状态，房间已重新加载。",
        ),
        ResetReason::Forked => (
            "The server's history differs from what was shown here. The room was loaded anew.",
            "服务器的历史记录与此处显示的不同，房间已重新加载。",
        ),
        ResetReason::Pruned => ("You were away for long. The room was loaded anew.", "离开时间较长，房间已重新加载。"),
        ResetReason::Rejoined => {
            ("You joined this room again. It was loaded anew.", "你重新加入了房间，内容已重新加载。")
        }
    };
    match language {
        Language::English => english,
        Language::Chinese => chinese,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_code_is_worded_in_both_languages() {
        for code in ErrorCode::ALL {
            let error = WireError::new(code.clone(), "for logs");
            let (english, chinese) = (error_words(Language::English, &error), error_words(Language::Chinese, &error));
            assert_ne!(english, "for logs", "{code}");
            assert!(english.is_ascii(), "{code}");
            assert!(!chinese.is_ascii(), "{code}");
        }
    }

    #[test]
    fn a_code_of_a_newer_server_speaks_for_itself() {
        let error = WireError::new(ErrorCode::from_wire("moon_phase"), "Not at full moon.");
        assert_eq!(error_words(Language::Chinese, &error), "Not at full moon.");
    }
}
