//! Fields that several requests have, as the node takes them.

use std::fmt::Display;
use std::str::FromStr;

use tonic::Status;
use weir_nf_api::scope_of;
use weir_state_transfer::chunk::Scope;

use super::status::invalid;

/// What the text of a field says.
///
/// # Errors
///
/// INVALID_ARGUMENT with what is wrong with it.
pub(super) fn parsed<T: FromStr<Err: Display>>(field: &str, text: &str) -> Result<T, Status> {
    text.parse().map_err(|error: T::Err| invalid(field, &error.to_string()))
}

/// Scopes by their numbers.
///
/// # Errors
///
/// INVALID_ARGUMENT that says what they `are`, when one is none.
pub(super) fn scopes(asked: &[i32], are: &str) -> Result<Vec<Scope>, Status> {
    let known = |asked: &i32| scope_of(*asked).ok_or_else(|| invalid("scopes", are));
    asked.iter().map(known).collect()
}
