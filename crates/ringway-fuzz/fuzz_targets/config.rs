//! A configuration is text from anywhere: it is accepted, or every error in it can be shown.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match ringway_config::parse("fuzz.yaml", text) {
        Ok(config) => assert!(!format!("{config:?}").is_empty()),
        Err(errors) => {
            assert!(!errors.problems().is_empty());
            assert!(!errors.to_string().is_empty());
        }
    }
});
