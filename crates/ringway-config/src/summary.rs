//! What a configuration amounts to, in one line, for `ringway check`.

use crate::model::{Config, Workers};

/// One line: workers, listeners, pools, backends, admin endpoint.
pub fn summary(config: &Config) -> String {
    let workers = match &config.workers {
        Workers::Auto => "one worker per CPU".to_owned(),
        Workers::Count(count) => counted(usize::from(count.get()), "worker"),
        Workers::Cpus(cpus) => {
            let list: Vec<String> = cpus.iter().map(u16::to_string).collect();
            format!(
                "{} on CPU {}",
                counted(cpus.len(), "worker"),
                list.join(", ")
            )
        }
    };
    let addresses = config
        .listeners
        .iter()
        .map(|listener| listener.binds.len())
        .sum();
    let backends = config.pools.iter().map(|pool| pool.backends.len()).sum();
    let admin = match &config.admin {
        Some(bind) => format!("admin on {bind}"),
        None => "admin off".to_owned(),
    };
    [
        workers,
        format!(
            "{} on {}",
            counted(config.listeners.len(), "listener"),
            counted(addresses, "address")
        ),
        counted(config.pools.len(), "pool"),
        counted(backends, "backend"),
        admin,
    ]
    .join(", ")
}

fn counted(count: usize, noun: &str) -> String {
    let plural = match (count, noun.ends_with('s')) {
        (1, _) => "",
        (_, true) => "es",
        (_, false) => "s",
    };
    format!("{count} {noun}{plural}")
}

#[cfg(test)]
mod tests {
    use super::summary;

    #[test]
    fn one_line_says_what_there_is() {
        let one = "listeners: {a: {bind: '127.0.0.1:0', pool: p}}\n\
                   pools: {p: {backends: [{address: '127.0.0.1:1'}]}}\n";
        let several = "workers: [0, 2]\nadmin: {bind: off}\n\
                       listeners: {a: {bind: ['127.0.0.1:0', '[::1]:0'], pool: p}}\n\
                       pools: {p: {backends: [{address: '127.0.0.1:1'}, {address: '127.0.0.1:2'}]}}\n";
        for (text, expected) in [
            (
                one,
                "one worker per CPU, 1 listener on 1 address, 1 pool, 1 backend, admin on 127.0.0.1:9901",
            ),
            (
                several,
                "2 workers on CPU 0, 2, 1 listener on 2 addresses, 1 pool, 2 backends, admin off",
            ),
        ] {
            assert_eq!(summary(&crate::parse("f", text).expect("valid")), expected);
        }
    }
}
