//! What must be true of a timeline at every moment.

use std::collections::BTreeSet;

use shared::ids::{Seq, UserId};
use shared::model::Post;
use shared::timeline::{PostRow, Row, Status, Timeline};

/// What the rows say, as texts.
pub(crate) fn bodies(timeline: &Timeline) -> Vec<String> {
    let text = |row: Row| match row {
        Row::Post(post) => post.body.as_deref().unwrap_or("(deleted)").to_owned(),
        Row::Hole(hole) => format!("({} missing)", hole.missing),
        Row::Unknown(unknown) => format!("({})", unknown.kind),
    };
    timeline.rows().map(text).collect()
}

/// Every post is a row, in one hole, or earlier; rows are in order; keys are unique and lead back to their rows.
pub(crate) fn assert_sound(timeline: &Timeline) {
    let mut counted = timeline.earlier();
    let mut last_seq = Seq(0);
    let mut unsent = false;
    let mut keys = BTreeSet::new();
    let rows: Vec<Row> = timeline.rows().collect();
    for (index, row) in rows.iter().enumerate() {
        assert!(keys.insert(row.key()), "two rows are {}", row.key());
        assert_eq!(timeline.index_of(row.key()), Some(index));
        match row {
            Row::Post(post) => match (post.seq, post.ordinal) {
                (Some(seq), Some(ordinal)) => {
                    counted += 1;
                    assert_eq!(ordinal, counted, "a post is neither shown nor counted: {rows:#?}");
                    assert!(seq > last_seq && !unsent);
                    last_seq = seq;
                }
                (Some(seq), None) => {
                    assert!(seq > last_seq && seq > timeline.head() && !unsent);
                    last_seq = seq;
                }
                (None, _) => unsent = true,
            },
            Row::Hole(hole) => {
                assert!(hole.missing > 0 && hole.after == last_seq && hole.before > hole.after && index > 0);
                assert!(!matches!(rows[index - 1], Row::Hole(_)));
                counted += hole.missing;
            }
            Row::Unknown(unknown) => {
                assert!(unknown.seq > last_seq && !unsent);
                last_seq = unknown.seq;
            }
        }
    }
}

/// The row of a committed post shows it.
pub(crate) fn assert_shows(row: &PostRow, post: &Post, me: UserId) {
    let as_shown = Post {
        seq: row.seq.unwrap(),
        rev: row.rev,
        ordinal: row.ordinal.unwrap(),
        by: row.by,
        client_id: row.client_id,
        ts: row.ts,
        body: row.body.as_deref().map(str::to_owned),
        edited: row.edited,
        reactions: row.reactions.clone(),
    };
    assert_eq!(as_shown, *post);
    assert_eq!(row.mine, row.by == me);
    assert_eq!(row.status, Status::Sent);
}
