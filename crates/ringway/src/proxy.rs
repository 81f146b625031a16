//! `ringway proxy`: a configuration from the command line instead of a file. Invariant: what the
//! flags do not say is as in a file that does not say it.

use ringway_config::{Config, HealthCheck, Proxy};
use ringway_control::Watch;

use crate::cli::{HealthChoice, ProxyArgs};
use crate::failure::Failure;
use crate::run;

/// Balances until a signal or a drain ends it.
pub(crate) fn proxy(args: ProxyArgs) -> Result<(), Failure> {
    let service = args.service.clone();
    run::serve(|| config(args), None, Watch::Off, &service)
}

fn config(args: ProxyArgs) -> Result<Config, Failure> {
    let mut proxy = Proxy::new(args.listen, args.to);
    proxy.algorithm = args.balance.into();
    proxy.health = match args.health {
        HealthChoice::Tcp => Some(HealthCheck::default()),
        HealthChoice::Off => None,
    };
    proxy.workers = args.workers.0;
    proxy.admin = args.admin.0;
    Config::for_proxy(proxy).map_err(|error| Failure::Usage(error.to_string()))
}
