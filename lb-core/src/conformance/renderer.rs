//! The suite of [`ConfigRenderer`](crate::ConfigRenderer).

#![allow(clippy::unused_async, reason = "cases have one shape in all suites")]

mod bed;
mod rendering;

pub use self::bed::{Bed, RendererSetup};
pub use self::rendering::*;

/// One test of each case of a [`ConfigRenderer`](crate::ConfigRenderer), from a
/// [`RendererSetup`](crate::conformance::renderer::RendererSetup). See
/// [`conformance`](crate::conformance).
#[macro_export]
macro_rules! config_renderer_suite {
    ($($given:tt)*) => {
        $crate::__conformance_cases! {
            ($) renderer [
                equal_tables_give_equal_bytes
                the_empty_table_renders
                each_backend_has_one_place_for_its_servers
                servers_do_not_change_the_text
                text_is_whole_lines_of_printable_characters
                files_are_named_in_the_text
                private_keys_stay_with_the_balancer
                what_cannot_be_expressed_is_invalid_and_named
                text_of_one_app_is_marked_as_its
            ]
            $($given)*
        }
    };
}
