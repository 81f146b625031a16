//! Test only: a seeded world of clients, backends and faults.
