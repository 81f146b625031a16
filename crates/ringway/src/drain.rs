//! `ringway drain`: the request that ends a running instance gently. Not the drain itself.

use crate::cli::Instance;
use crate::client::{Endpoint, Method};
use crate::failure::Failure;
use crate::output::say;

/// Starts the drain and returns.
pub(crate) fn drain(instance: &Instance) -> Result<(), Failure> {
    let endpoint = Endpoint::of(instance)?;
    endpoint.request(Method::Post, "/v1/drain")?;
    say(&format!("{endpoint}: draining"))
}
