//! Supervisor, signals, admin endpoint and logs.
