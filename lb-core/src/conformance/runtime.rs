//! The suite of [`ContainerRuntime`](crate::ContainerRuntime).
//!
//! Cases that need an ability (programs, limits, published ports) say so in their docs; a backend without it
//! leaves them out by name. [`restart`] is apart: it disturbs everyone on the engine.

mod bed;
mod containers;
mod cut;
mod isolation;
mod networks;
mod ownership;
mod processes;
mod refusals;
pub mod restart;
mod stalled;
mod watching;

pub use self::bed::{Bed, Does, RuntimeSetup};
pub use self::containers::*;
pub use self::cut::*;
pub use self::isolation::*;
pub use self::networks::*;
pub use self::ownership::*;
pub use self::processes::*;
pub use self::refusals::*;
pub use self::stalled::*;
pub use self::watching::*;

/// One test of each case of a [`ContainerRuntime`](crate::ContainerRuntime), from a
/// [`RuntimeSetup`](crate::conformance::runtime::RuntimeSetup). See [`conformance`](crate::conformance).
#[macro_export]
macro_rules! container_runtime_suite {
    ($($given:tt)*) => {
        $crate::__conformance_cases! {
            ($) runtime [
                it_says_who_it_is
                an_image_that_is_here_has_a_digest_and_runs_by_it
                an_image_that_is_nowhere_is_not_found
                a_container_runs_is_listed_and_stops
                running_twice_is_success
                one_made_but_never_started_is_started
                many_at_once_make_one_each
                two_values_on_one_engine_agree
                the_list_is_in_order_of_name
                another_spec_is_a_conflict
                an_exited_one_is_a_conflict_until_it_is_removed
                a_missing_image_is_not_found_and_leaves_nothing
                a_missing_network_is_not_found_and_leaves_nothing
                a_taken_address_is_a_conflict_and_leaves_nothing
                an_address_outside_the_subnet_is_invalid
                a_published_port_has_one_owner
                a_port_another_process_holds_is_a_conflict
                a_program_that_is_not_there_is_invalid
                a_folder_that_is_not_there_is_invalid
                a_cut_run_goes_on_and_the_next_call_waits
                a_cut_stop_goes_on_and_the_next_call_waits
                a_cut_network_call_goes_on_and_the_next_call_waits
                a_cut_image_call_goes_on_and_the_next_call_waits
                a_cut_checker_leaves_nothing
                a_checker_left_behind_gives_way
                calls_on_a_stalled_engine_time_out
                a_call_dropped_on_a_stalled_engine_is_done_once_it_goes_on
                a_foreign_container_is_neither_listed_nor_touched
                clusters_on_one_engine_do_not_meet
                a_network_of_another_cluster_is_a_conflict
                a_network_is_made_once_and_removed
                another_subnet_is_a_conflict
                an_overlapping_subnet_is_a_conflict
                an_engine_range_outside_the_subnet_is_invalid
                a_network_in_use_stays
                events_tell_of_ours_and_of_nobody_elses
                what_an_event_tells_is_listed
                usage_tells_of_running_ones_only
                usage_counts_up
                logs_of_nobody_are_not_found
                logs_have_both_streams_and_a_tail
                run_to_end_gives_code_and_output_and_removes
                run_to_end_kills_at_its_deadline
                output_keeps_its_end
                arguments_and_environment_reach_the_process
                a_stop_asks_by_its_signal
                a_stop_kills_after_the_grace
                an_always_restarted_container_comes_back
                user_hosts_and_volumes_reach_the_process
                privileges_are_dropped
                a_read_only_root_has_its_writable_places
                want_of_memory_is_told
                a_published_port_leads_in_at_its_address_only
            ]
            $($given)*
        }
    };
}
