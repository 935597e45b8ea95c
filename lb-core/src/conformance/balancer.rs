//! The suite of [`LoadBalancer`](crate::LoadBalancer).
//!
//! Small servers of the suite stand behind the balancer, and clients that never try again before it. A
//! balancer that carries no traffic leaves those cases out.

mod bed;
mod changes;
mod client;
mod edited;
mod force;
mod killed;
mod routes;
mod site;
mod stalled;
mod traffic;

pub use self::bed::{BalancerSetup, Bed};
pub use self::changes::*;
pub use self::client::{Answer, Connection, get};
pub use self::edited::*;
pub use self::force::*;
pub use self::killed::*;
pub use self::routes::*;
pub use self::site::Site;
pub use self::stalled::*;
pub use self::traffic::*;

/// One test of each case of a [`LoadBalancer`](crate::LoadBalancer), from a
/// [`BalancerSetup`](crate::conformance::balancer::BalancerSetup). See [`conformance`](crate::conformance).
#[macro_export]
macro_rules! load_balancer_suite {
    ($($given:tt)*) => {
        $crate::__conformance_cases! {
            ($) balancer [
                it_says_who_it_is
                nothing_is_in_force_before_the_first_table
                a_table_comes_in_force_and_again_changes_nothing
                servers_come_and_go
                listeners_come_and_go
                a_table_that_breaks_a_rule_changes_nothing
                of_calls_at_once_the_last_table_stays
                a_cut_apply_goes_on_and_the_next_call_waits
                a_cut_shutdown_goes_on_and_the_next_call_waits
                equal_tables_give_equal_files
                files_hide_private_keys
                another_value_takes_over_what_is_in_force
                a_shutdown_ends_it_and_it_can_start_again
                a_port_somebody_holds_is_set_aside_until_it_is_free
                routes_choose_the_longest_path_of_the_most_specific_name
                a_stripped_prefix_is_not_seen
                servers_of_other_hosts_are_reached_from_outside
                a_backend_without_servers_refuses_and_others_go_on
                requests_are_spread_and_counted
                nothing_is_open_when_all_is_answered
                a_server_that_refuses_costs_no_request
                counters_never_go_back
                changes_lose_no_request
                a_server_that_leaves_while_it_is_tried_again_does_no_harm
                streams_outlive_changes_of_others
                a_draining_server_keeps_what_it_has_and_takes_nothing_new
                a_draining_server_is_not_idle_while_a_kept_client_may_come_to_it
                a_server_that_left_has_its_connections_shut
                files_edited_by_hand_are_noticed_and_written_anew
                a_killed_balancer_comes_back_with_the_next_table
                a_balancer_killed_while_it_takes_a_table_serves_the_next
                calls_on_a_stalled_balancer_time_out
                a_call_dropped_on_a_stalled_balancer_is_done_once_it_goes_on
            ]
            $($given)*
        }
    };
}
