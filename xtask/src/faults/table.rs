//! The list of faults and attacks: one row each, with its name, what must happen, and the tests that show it.
//!
//! Must not live here: how a fault is caused; that is in `e2e/tests`, once. Invariant: every test named here exists, and
//! the numbers are those of the list in order, without a gap up to the last that concerns one server.

/// What a row needs from the machine beside the compiler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// To be root: namespaces, mounts, control groups.
    Root,
    /// A Chromium, and the page.
    Browser,
    /// Nothing of the machine, but its tests optimised: they are a crowd, and must not be late themselves.
    Optimised,
}

/// One fault or attack.
#[derive(Debug)]
pub(crate) struct Row {
    /// Its place in the list.
    pub(crate) number: u32,
    /// What it is called on the command line. A name keeps its meaning.
    pub(crate) name: &'static str,
    /// What is done to the server, the link, the machine or the page.
    pub(crate) fault: &'static str,
    /// What must be seen then.
    pub(crate) expected: &'static str,
    /// What it needs.
    pub(crate) needs: &'static [Need],
    /// The tests that show it, as `FILE::TEST` of `e2e/tests`.
    pub(crate) tests: &'static [&'static str],
}

impl Row {
    /// The files of e2e/tests its tests are in; some twice.
    pub(crate) fn files(&self) -> impl Iterator<Item = &'static str> {
        self.tests.iter().filter_map(|test| test.split_once("::")).map(|(file, _)| file)
    }
}

/// Every row there is.
pub(crate) const ROWS: [Row; 34] = [
    Row {
        number: 1,
        name: "half-open-link",
        fault: "every packet between a client and the server is dropped; neither is told",
        expected: "the client notices within 9 s while a send waits, and after the heal every post is there once",
        needs: &[Need::Root],
        tests: &[
            "network_faults::fault_01_a_half_open_link_is_noticed_in_time_and_its_posts_arrive_once",
            "server_faults::scenario_06_a_black_hole_both_ways_is_noticed_while_sends_wait_and_nothing_is_lost",
        ],
    },
    Row {
        number: 2,
        name: "black-hole-heals",
        fault: "the link swallows packets and then heals, so that the kernel delivers the late originals",
        expected: "a late original and its retry are one row",
        needs: &[Need::Root],
        tests: &[
            "network_faults::fault_02_originals_that_arrive_late_from_a_healed_black_hole_and_their_retries_are_one_row",
            "server_faults::scenario_06_a_frozen_link_that_delivers_late_gives_no_duplicate",
        ],
    },
    Row {
        number: 3,
        name: "dead-peer",
        fault: "a client's packets end for ever without a word",
        expected: "the server frees the connection by its deadline",
        needs: &[Need::Root],
        tests: &[
            "network_faults::fault_03_a_peer_whose_link_died_is_freed_by_the_deadline",
            "server_faults::scenario_07_a_dead_peer_is_freed_and_told_why",
        ],
    },
    Row {
        number: 4,
        name: "reset-mid-message",
        fault: "the connection is reset in the middle of a burst",
        expected: "the client resumes, without a gap",
        needs: &[Need::Root],
        tests: &[
            "network_faults::fault_04_a_reset_in_the_middle_of_a_burst_is_resumed_without_a_gap",
            "server_faults::scenario_01_a_hundred_posts_each_way_across_a_cut_link_arrive_once_and_in_order",
        ],
    },
    Row {
        number: 5,
        name: "one-direction",
        fault: "packets pass in one direction only",
        expected: "the application's heartbeat notices, upwards and downwards",
        needs: &[Need::Root],
        tests: &[
            "network_faults::fault_05_a_link_dead_in_one_direction_is_noticed_and_nothing_is_lost",
            "server_faults::scenario_06_a_link_dead_only_upwards_is_noticed_and_nothing_is_lost",
        ],
    },
    Row {
        number: 6,
        name: "lossy-thin-link",
        fault: "a fifth of all packets is lost; then the link carries 256 kbit/s, and 32 for whoever missed 100 KB",
        expected: "slower, but whole and in order, and no loop of closing and resuming",
        needs: &[Need::Root],
        tests: &[
            "network_faults::fault_06_a_link_that_loses_packets_and_one_that_is_thin_are_slower_and_whole",
            "network_faults::fault_06_what_was_missed_comes_over_a_very_thin_link_in_one_go",
        ],
    },
    Row {
        number: 7,
        name: "rough-link",
        fault: "delay, jitter and slicing into single bytes; a link that freezes and delivers late",
        expected: "whole and in order, and a link that is only slow is not left",
        needs: &[],
        tests: &[
            "server_faults::fault_07_jitter_and_messages_in_single_bytes_change_nothing",
            "server_faults::scenario_06_a_slow_link_causes_no_reconnect",
            "server_faults::scenario_06_a_frozen_link_that_delivers_late_gives_no_duplicate",
        ],
    },
    Row {
        number: 8,
        name: "cut-before-ack",
        fault: "the server is killed after the sync of a commit and before its acknowledgement",
        expected: "the retry gets the seq the post has, and the post is one row",
        needs: &[],
        tests: &[
            "storage_faults::fault_08_killed_between_the_sync_and_the_ack_the_retry_gets_the_seq_that_was_committed",
            "server_faults::scenario_04_a_resend_after_a_restart_gets_the_first_answer_again",
        ],
    },
    Row {
        number: 9,
        name: "kill-nine",
        fault: "kill -9 of the server under load, again and again",
        expected: "what was acknowledged is stored once, where it was said, and shown once, in one order",
        needs: &[],
        tests: &["server_faults::scenario_03_killed_20_times_in_a_burst_no_acknowledged_post_is_lost_or_doubled"],
    },
    Row {
        number: 10,
        name: "power-cut",
        fault: "the power fails under load: only what reached the disk is there afterwards",
        expected: "nothing acknowledged is lost; a server that does not sync is found out",
        needs: &[Need::Root],
        tests: &[
            "power_cut::fault_10_no_acknowledged_post_is_lost_in_a_power_cut",
            "power_cut::fault_10_a_server_whose_syncs_do_nothing_is_found_out",
        ],
    },
    Row {
        number: 11,
        name: "frozen-server",
        fault: "SIGSTOP for a while (60 s through this command), then SIGCONT",
        expected: "the clients notice and come back, and what they had sent twice is one row",
        needs: &[],
        tests: &["machine_faults::fault_11_a_server_that_froze_and_thawed_gives_no_duplicate"],
    },
    Row {
        number: 12,
        name: "sync-error",
        fault: "fsync answers EIO; the device refuses data for a while, and after the restart the power fails",
        expected: "neither acknowledged nor refused; the server stops, the retry is one row, and nothing acknowledged is lost",
        needs: &[Need::Root],
        tests: &[
            "storage_faults::a_failed_sync_is_answered_to_nobody_and_stops_the_server",
            "starts::what_a_killed_server_left_is_written_once_more_and_synced_before_it_is_read",
            "power_cut::fault_12_nothing_that_is_acknowledged_after_a_failed_sync_is_lost_in_a_power_cut",
            "power_cut::fault_12_what_a_killed_server_never_synced_is_on_the_disk_before_it_is_said_to_be_stored",
        ],
    },
    Row {
        number: 13,
        name: "slow-disk",
        fault: "every sync takes 200 ms; every sync takes 7 s",
        expected: "later, with bounded queues; called slow and not left",
        needs: &[],
        tests: &[
            "storage_faults::fault_13_a_disk_that_takes_200_ms_for_a_sync_costs_time_and_no_memory",
            "storage_faults::scenario_06_a_server_with_a_slow_disk_is_called_slow_and_not_left",
        ],
    },
    Row {
        number: 14,
        name: "disk-full",
        fault: "the disk, or the database's limit, is reached",
        expected: "storage_full to whoever writes, reads go on, and it heals by itself",
        needs: &[Need::Root],
        tests: &[
            "storage_faults::a_full_disk_refuses_posts_with_storage_full_reads_on_and_heals_by_itself",
            "storage_faults::a_database_at_its_limit_refuses_posts_with_storage_full_and_reads_on",
            "starts::a_server_that_is_started_on_a_full_disk_says_so_reads_on_and_heals_by_itself",
        ],
    },
    Row {
        number: 15,
        name: "bit-rot",
        fault: "one bit of the write-ahead log is flipped while the server is down",
        expected: "no start with less than was acknowledged, until --accept-loss says so",
        needs: &[],
        tests: &["storage_faults::fault_15_a_flipped_bit_in_the_write_ahead_log_is_noticed_at_the_start"],
    },
    Row {
        number: 16,
        name: "old-backup",
        fault: "the database alone, or the whole folder, is put back from a backup",
        expected: "alone: no start without --accept-loss; whole: who has seen more is reset alone and told, with an alarm",
        needs: &[Need::Browser],
        tests: &[
            "storage_faults::a_database_from_the_past_is_not_started_with_until_the_loss_is_accepted",
            "storage_faults::fault_16_a_folder_from_the_past_resets_only_who_has_seen_more_and_raises_an_alarm",
            "page_faults::a_server_restored_from_an_older_backup_is_told_of_and_shown_as_it_is_now",
        ],
    },
    Row {
        number: 17,
        name: "clock-back",
        fault: "the wall clock jumps two hours back, then four forward, under load",
        expected: "order, heartbeats and sessions are unaffected, and no time in a room runs backwards",
        needs: &[],
        tests: &["machine_faults::fault_17_a_wall_clock_that_jumps_two_hours_changes_neither_order_nor_timers"],
    },
    Row {
        number: 18,
        name: "out-of-descriptors",
        fault: "ulimit -n 64, and more sockets than that; 256, soft and hard",
        expected: "no spinning; who is connected is served, and when sockets go others get in; a soft limit is raised, and within a hard one whoever is too many is told",
        needs: &[],
        tests: &[
            "machine_faults::fault_18_out_of_descriptors_the_server_does_not_spin_and_recovers",
            "machine_faults::fault_18_what_may_be_raised_of_the_descriptors_is_raised_by_the_server_itself",
            "machine_faults::fault_18_where_descriptors_are_few_so_are_sockets_and_whoever_is_too_many_is_told",
        ],
    },
    Row {
        number: 19,
        name: "starved-and-killed",
        fault: "a twentieth of a core (a hundredth through this command); then too little memory, so that the kernel kills the server",
        expected: "slower, and nobody is disconnected; after the kill as after kill -9",
        needs: &[Need::Root],
        tests: &[
            "machine_faults::fault_19_a_server_starved_of_cpu_keeps_its_clients",
            "machine_faults::fault_19_a_server_killed_for_its_memory_loses_nothing_acknowledged",
        ],
    },
    Row {
        number: 20,
        name: "page-away",
        fault: "the browser is offline, frozen, in its back-forward cache, asleep; a tab dies right after Enter, or of two one",
        expected: "a banner that is true at every moment, and an outbox that is sent once, in order, when the page is back",
        needs: &[Need::Browser],
        tests: &[
            "page::scenario_01_offline_is_shown_at_once_writing_goes_on_and_all_is_sent_when_back",
            "page::a_reload_in_the_middle_of_sending_loses_and_doubles_nothing",
            "page::scenario_05_a_tab_closed_with_20_queued_posts_sends_them_in_order_when_opened_again",
            "page::two_tabs_of_one_person_do_not_send_twice",
            "page_faults::a_page_that_was_offline_says_what_it_kept_and_afterwards_what_came_and_went",
            "page_faults::a_thawed_page_looks_at_its_link_at_once_and_catches_up",
            "page_faults::a_page_frozen_longer_than_its_server_waits_for_it_comes_back_whole",
            "page_faults::a_page_from_the_back_forward_cache_looks_at_its_link_at_once_and_catches_up",
            "page_faults::a_machine_that_slept_finds_out_at_once_that_its_link_died_and_is_live_when_it_is_back",
            "page_kept::a_tab_killed_right_after_enter_has_its_text_in_the_outbox_or_still_in_the_composer",
            "page_kept::what_a_killed_tab_left_is_sent_by_the_other_which_says_so",
        ],
    },
    Row {
        number: 21,
        name: "slowloris",
        fault: "heads that never end, one byte at a time",
        expected: "closed within 10 s, and the others notice nothing",
        needs: &[],
        tests: &[
            "hostile::fault_21_heads_that_never_end_are_closed_in_time_and_cost_the_others_nothing",
            "bad_handshake::a_head_that_takes_too_long_is_not_waited_for",
            "bad_handshake::a_head_fed_byte_by_byte_does_not_reset_its_deadline",
            "too_much::sockets_that_never_upgrade_do_not_lock_the_others_out",
        ],
    },
    Row {
        number: 22,
        name: "huge-head",
        fault: "a head of 26 MB, or with a hundred fields",
        expected: "431, or the end, without reading it",
        needs: &[],
        tests: &[
            "hostile::fault_22_heads_of_26_megabytes_cost_the_others_nothing",
            "bad_handshake::a_head_that_is_too_large_is_refused_with_431",
            "bad_handshake::a_head_with_too_many_fields_is_refused_with_431",
            "bad_handshake::a_head_of_26_megabytes_is_refused_without_being_read",
            "bad_handshake::an_address_that_keeps_sending_heads_nobody_can_read_is_no_longer_read_for_a_while",
        ],
    },
    Row {
        number: 23,
        name: "ping-flood",
        fault: "pings as fast as they go, from a peer that reads and from one that does not",
        expected: "1008, and flat memory",
        needs: &[],
        tests: &[
            "hostile::fault_23_floods_of_pings_cost_the_others_nothing",
            "too_much::a_flood_of_pings_closes_with_1008",
            "too_much::a_flood_of_pings_from_somebody_who_never_reads_costs_no_memory",
        ],
    },
    Row {
        number: 24,
        name: "broken-frames",
        fault: "2^62 bytes announced, bad UTF-8, no mask, long pings, reserved codes, 131,000 fragments, 64 KiB and more",
        expected: "closed with the right code, and flat memory",
        needs: &[],
        tests: &[
            "hostile::fault_24_broken_frames_cost_the_others_nothing",
            "bad_input::a_frame_that_announces_2_to_the_62_bytes_closes_with_1009_at_once",
            "bad_input::a_message_that_is_not_utf_8_closes_with_1007",
            "bad_input::an_unmasked_frame_closes_with_1002",
            "bad_input::frames_the_protocol_does_not_know_close_with_1002",
            "bad_input::a_message_in_too_many_fragments_is_closed",
            "bad_input::a_message_that_is_too_large_closes_with_1009",
            "bad_input::fragments_that_add_up_to_too_much_close_with_1009",
        ],
    },
    Row {
        number: 25,
        name: "never-reading",
        fault: "subscribers of a busy room that read nothing",
        expected: "closed after 10 s without progress, flat memory, and the others' p99 unmoved",
        needs: &[],
        tests: &[
            "hostile::fault_25_subscribers_that_never_read_are_closed_and_cost_the_others_nothing",
            "too_much::a_reader_that_takes_nothing_is_closed_and_costs_the_others_nothing",
            "too_much::scenario_14_a_reader_at_1_kb_per_s_slows_nobody_and_loses_nothing",
        ],
    },
    Row {
        number: 26,
        name: "crowd-at-the-door",
        fault: "the server dies and 500 clients (10,000 through this command) are back in the same moment",
        expected: "all back, and the kernel's queue at the door never overflows",
        needs: &[Need::Root],
        tests: &["hostile::fault_26_a_crowd_that_returns_at_once_is_let_in_whole"],
    },
    Row {
        number: 27,
        name: "hostile-json",
        fault: "depth 10,000, a key twice, 1e400, lone surrogates",
        expected: "an error, never a panic, and the socket stays",
        needs: &[],
        tests: &[
            "bad_input::a_message_that_is_not_json_is_answered_and_the_socket_stays",
            "bad_input::a_known_command_with_a_malformed_payload_is_answered_under_its_id",
        ],
    },
    Row {
        number: 28,
        name: "foreign-origin",
        fault: "an upgrade or a sign-in with a foreign origin, null, a near miss, or none",
        expected: "403 before the upgrade; without an origin only with a token",
        needs: &[],
        tests: &[
            "bad_handshake::an_upgrade_from_a_foreign_origin_is_refused_whoever_asks",
            "bad_handshake::an_upgrade_without_an_origin_needs_a_token",
            "bad_handshake::a_session_is_not_opened_for_a_foreign_origin",
        ],
    },
    Row {
        number: 29,
        name: "signed-out",
        fault: "a session is ended while it is in use, and its token is tried again",
        expected: "silent within a second, and refused from then on (there is nothing to kick somebody with yet)",
        needs: &[],
        tests: &["protocol::a_session_that_was_signed_out_is_silent_within_a_second_and_never_comes_back"],
    },
    Row {
        number: 30,
        name: "ids-of-others",
        fault: "ids of rooms that are not there, in every command that takes one",
        expected: "the same not_found whatever is asked (every room there is may be found: none is private yet)",
        needs: &[],
        tests: &["bad_input::a_room_that_does_not_exist_is_not_found_whatever_is_asked_of_it"],
    },
    Row {
        number: 31,
        name: "html-in-text",
        fault: "markup and scripts in names and texts",
        expected: "shown as text; the policy has nothing to report",
        needs: &[Need::Browser],
        tests: &[
            "page::text_is_never_html",
            "page_faults::names_titles_and_texts_that_are_scripts_are_shown_as_they_are_and_do_nothing",
        ],
    },
    Row {
        number: 32,
        name: "enter-in-composition",
        fault: "Enter while an input method composes",
        expected: "not sent",
        needs: &[Need::Browser],
        tests: &[
            "page::enter_during_a_composition_does_not_send_and_after_it_does",
            "page_faults::enter_that_chooses_a_word_of_a_japanese_composition_sends_nothing_in_either_order_of_events",
        ],
    },
    Row {
        number: 33,
        name: "rolling-restart",
        fault: "SIGTERM or SIGINT under load, then the next server",
        expected: "not ready, a notice, 1012, acknowledgements delivered, a spread return",
        needs: &[],
        tests: &[
            "server_faults::scenario_11_sigterm_says_goodbye_with_1012_delivers_the_acks_in_flight_and_exits_0",
            "server_faults::scenario_11_sigint_is_as_orderly",
            "server_faults::scenario_11_a_draining_server_is_not_ready_and_its_clients_return_to_the_next",
        ],
    },
    Row {
        number: 34,
        name: "storm",
        fault: "the server is killed under 300 sessions (10,000 through this command, or --clients) of which some post",
        expected: "they come back by themselves over 10 s and more, no second sees 15 % of them, nothing is lost",
        needs: &[Need::Root, Need::Optimised],
        tests: &["storm::fault_34_a_crowd_whose_server_was_killed_comes_back_spread_out_and_loses_nothing"],
    },
];

/// Finds a row by its name or its number.
pub(crate) fn find(wanted: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.name == wanted || row.number.to_string() == wanted)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::process::root;

    /// Whether `text` has a function of that name under a test attribute.
    fn has_test(text: &str, name: &str) -> bool {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let is_it = |line: &str| line.strip_prefix("async ").unwrap_or(line).starts_with(&format!("fn {name}("));
        let attributes = |at: usize| lines[..at].iter().rev().take_while(|line| line.starts_with("#["));
        (0..lines.len()).any(|at| {
            is_it(lines[at])
                && attributes(at).any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
        })
    }

    #[test]
    fn every_test_named_in_the_list_exists() {
        let mut missing = Vec::new();
        for (row, test) in ROWS.iter().flat_map(|row| row.tests.iter().map(move |test| (row, test))) {
            let (file, name) = test.split_once("::").expect("FILE::TEST");
            let text = std::fs::read_to_string(root().join(format!("e2e/tests/{file}.rs"))).unwrap_or_default();
            if !has_test(&text, name) {
                missing.push(format!("{}: {test}", row.name));
            }
        }
        assert!(missing.is_empty(), "the list names tests that do not exist:\n{}", missing.join("\n"));
    }

    #[test]
    fn the_search_finds_tests_and_nothing_else() {
        let text = "#[test]\nfn one() {}\n\nfn two() {}\n#[tokio::test(flavor = \"x\")]\nasync fn three() {}";
        assert!(has_test(text, "one") && has_test(text, "three"));
        assert!(!has_test(text, "two") && !has_test(text, "on"));
    }

    #[test]
    fn the_list_is_whole_and_its_names_are_names() {
        assert!(ROWS.iter().map(|row| row.number).eq(1..=34), "the rows stand in order, each number once");
        assert_eq!(ROWS.iter().map(|row| row.name).collect::<BTreeSet<_>>().len(), ROWS.len(), "a name stands twice");
        for row in &ROWS {
            assert!(row.name.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{}", row.name);
            assert!(!row.tests.is_empty(), "{} names no test", row.name);
        }
    }
}
