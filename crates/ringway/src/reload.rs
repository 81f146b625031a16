//! `ringway reload`: asks a running instance to read its file again, and says what that changed. Not the
//! reload itself. Invariant: exit code 0 means that every worker runs what the file says; 78 that the
//! file is invalid and nothing changed.

use serde_json::Value;

use crate::cli::Instance;
use crate::client::{ClientError, Endpoint, Method};
use crate::failure::Failure;
use crate::output::say;

/// Reloads, and returns when the answer is there.
pub(crate) fn reload(instance: &Instance) -> Result<(), Failure> {
    let endpoint = Endpoint::of(instance)?;
    match endpoint.request(Method::Post, "/v1/reload") {
        Ok(response) => {
            let changes = texts(&response.body, "changes");
            for change in &changes {
                say(change)?;
            }
            say(&format!("{endpoint}: reloaded, {} changed", changes.len()))
        }
        Err(ClientError::Refused { endpoint, response }) => {
            let mut text = format!("{endpoint}: nothing is changed: {}", response.reason());
            for line in texts(&response.body, "detail") {
                text.push('\n');
                text.push_str(&line);
            }
            let is_invalid = response.reason() == "the configuration is invalid";
            Err(match is_invalid {
                true => Failure::Refused(text),
                false => Failure::Runtime(text),
            })
        }
        Err(error) => Err(error.into()),
    }
}

/// The texts of a list in a JSON answer, without what could steer a terminal.
pub(crate) fn texts(body: &[u8], key: &str) -> Vec<String> {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    let list = answer[key].as_array().cloned().unwrap_or_default();
    let shown = |c: char| if c.is_control() && c != '\n' { ' ' } else { c };
    list.iter()
        .filter_map(Value::as_str)
        .map(|text| text.chars().map(shown).collect())
        .collect()
}
