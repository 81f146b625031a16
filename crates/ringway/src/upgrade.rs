//! `ringway upgrade`: the request that replaces a running instance by a new process. Not the upgrade
//! itself.

use std::time::Duration;

use crate::cli::Instance;
use crate::client::{Endpoint, Method};
use crate::failure::Failure;
use crate::output::say;

/// Longer than any `--upgrade-timeout` that makes sense; the instance answers or goes before.
const ANSWER_WITHIN: Duration = Duration::from_secs(3600);

/// Upgrades, and returns when the new process has taken over.
pub(crate) fn upgrade(instance: &Instance) -> Result<(), Failure> {
    let endpoint = Endpoint::of(instance)?;
    let response = endpoint.request_within(Method::Post, "/v1/upgrade", ANSWER_WITHIN)?;
    let answer: serde_json::Value = serde_json::from_slice(&response.body)
        .map_err(|error| Failure::Runtime(format!("{endpoint}: {error}")))?;
    let (pid, version) = (&answer["pid"], answer["version"].as_str().unwrap_or("?"));
    say(&format!(
        "{endpoint}: upgraded; process {pid} (version {version}) accepts, the old one drains"
    ))
}
