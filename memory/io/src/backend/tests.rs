//! What every backend promises, asked of each: the file, and a real Redis.

mod kit;
mod promises;
mod redis;
mod twins;

use self::kit::{Bench, redis_server};

/// Each promise once for each backend.
macro_rules! kept_by_both {
    ($($promise:ident),+ $(,)?) => {
        mod file_keeps {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $promise() {
                promises::$promise(Bench::file().await).await;
            })+
        }
        mod redis_keeps {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $promise() {
                let Some(server) = redis_server() else { return };
                promises::$promise(Bench::redis(&server).await).await;
            })+
        }
    };
}

kept_by_both!(
    what_is_put_is_there_until_its_very_moment,
    quotas_hold_to_the_item_and_to_the_byte,
    what_expired_makes_way_and_what_lives_never_does,
    preconditions_are_asked_of_what_lives,
    tenants_share_nothing_not_even_a_count,
    a_namespace_is_listed_in_pages_of_all_below_it,
    a_subject_is_found_wherever_a_segment_names_it_and_deleted_as_a_whole,
    an_answer_of_many_large_items_ends_early_and_says_where_to_go_on,
    events_are_told_newest_first_with_what_they_are_linked_to,
    every_access_is_an_event_of_a_chain_that_verifies,
    with_a_secret_events_are_sealed,
    a_sweep_removes_what_expired_and_nothing_else,
    writes_at_once_are_each_a_version_of_their_own,
    an_item_is_found_by_the_words_it_has_now_once_it_is_acknowledged,
);
