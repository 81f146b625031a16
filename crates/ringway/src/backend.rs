//! `ringway backend`: takes one backend out of use, back into it, or gives it another weight, in a running
//! instance. Not the change itself. Invariant: exit code 0 means that every worker acts on it and, with
//! `--wait`, that the backend has no connection left.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::cli::{BackendArgs, WeightChoice};
use crate::client::{Endpoint, Method, encoded};
use crate::failure::Failure;
use crate::output::say;
use crate::reload::texts;
use crate::snapshot::Backend;

/// How often to look whether connections are left.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Changes what the flags say, or says what there is.
pub(crate) fn backend(args: &BackendArgs) -> Result<(), Failure> {
    let endpoint = Endpoint::of(&args.instance)?;
    let place = Place {
        endpoint,
        pool: &args.pool,
        address: args.address.to_string(),
    };
    let body = body(args);
    if !body.is_empty() {
        let body = Value::Object(body).to_string();
        let path = format!("{}/backends/{}", place.pool_path(), segment(&place.address));
        let response = place.endpoint.send(Method::Patch, &path, &body)?;
        let changes = texts(&response.body, "changes");
        for change in &changes {
            say(change)?;
        }
        if changes.is_empty() {
            say("nothing to change")?;
        }
    }
    match args.wait {
        Some(time) => place.until_empty(time),
        None => say(&described(&place.look()?)),
    }
}

fn body(args: &BackendArgs) -> Map<String, Value> {
    let mut body = Map::new();
    if let Some(state) = args.state {
        body.insert("state".to_owned(), json!(state.as_word()));
    }
    match args.weight {
        None => {}
        Some(WeightChoice::To(weight)) => {
            body.insert("weight".to_owned(), json!(weight));
        }
        Some(WeightChoice::OfTheFile) => {
            body.insert("weight".to_owned(), Value::Null);
        }
    }
    body
}

/// Which backend of which instance.
struct Place<'a> {
    endpoint: Endpoint,
    pool: &'a str,
    address: String,
}

impl Place<'_> {
    fn pool_path(&self) -> String {
        format!("/v1/pools/{}", segment(self.pool))
    }

    /// As it is now.
    fn look(&self) -> Result<Backend, Failure> {
        let response = self.endpoint.request(Method::Get, &self.pool_path())?;
        let pool: crate::snapshot::Pool = serde_json::from_slice(&response.body)
            .map_err(|error| Failure::Runtime(format!("{}: unreadable: {error}", self.endpoint)))?;
        let mut backends = pool.backends.into_iter();
        let found = backends.find(|backend| backend.address == self.address);
        found.ok_or_else(|| {
            let (address, pool) = (&self.address, self.pool);
            Failure::Runtime(format!("there is no backend `{address}` in pool `{pool}`"))
        })
    }

    fn until_empty(&self, time: Duration) -> Result<(), Failure> {
        let until = Instant::now() + time;
        loop {
            let backend = self.look()?;
            if backend.connections == 0 {
                return say(&described(&backend));
            }
            if Instant::now() >= until {
                let left = described(&backend);
                return Err(Failure::Runtime(format!("time is up: {left}")));
            }
            sleep(LOOK_EVERY.min(until.saturating_duration_since(Instant::now())));
        }
    }
}

/// As one segment of a path, RFC 3986 section 3.3.
fn segment(text: &str) -> String {
    encoded(text, b":")
}

fn described(backend: &Backend) -> String {
    let connections = match backend.connections {
        1 => "1 connection".to_owned(),
        count => format!("{count} connections"),
    };
    let line = format!(
        "{}: {}, weight {}, {}, {connections}",
        backend.address, backend.admin_state, backend.weight, backend.state
    );
    line.replace(char::is_control, "?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_is_one_line_whatever_it_is_called() {
        let backend = Backend {
            address: "10.0.0.1:1\n\u{1b}[2J".to_owned(),
            admin_state: "drain".to_owned(),
            state: "up".to_owned(),
            weight: 3,
            connections: 1,
            ..Backend::default()
        };
        let line = "10.0.0.1:1??[2J: drain, weight 3, up, 1 connection";
        assert_eq!(described(&backend), line);
    }
}
