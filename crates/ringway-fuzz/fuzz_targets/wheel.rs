//! The timer wheel against a sorted map: each slot is due once, not early, and at most one tick
//! late.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use ringway_flow::Moment;
use ringway_flow::wheel::Wheel;

const TICK_MICROS: u64 = 1024;

#[derive(Arbitrary, Debug)]
enum Step {
    Set { slot: u8, delay: Delay },
    Cancel { slot: u8 },
    Pass(Delay),
}

/// A length of time of any magnitude.
#[derive(Arbitrary, Debug)]
struct Delay {
    mantissa: u16,
    shift: u8,
}

impl Delay {
    fn micros(&self) -> u64 {
        u64::from(self.mantissa) << (self.shift % 36)
    }
}

fuzz_target!(|input: (u32, Vec<Step>)| {
    let (start, steps) = input;
    let mut now = u64::from(start) << 12;
    let mut wheel = Wheel::new(Moment::from_micros(now), 0);
    let mut model = BTreeMap::new();
    for step in steps {
        match step {
            Step::Set { slot, delay } => {
                let due = now + delay.micros();
                wheel.set(u32::from(slot), Moment::from_micros(due));
                model.insert(u32::from(slot), due);
            }
            Step::Cancel { slot } => {
                wheel.cancel(u32::from(slot));
                model.remove(&u32::from(slot));
            }
            Step::Pass(delay) => now += delay.micros(),
        }
        if let Some(first) = model.values().min() {
            let next = wheel.next().expect("something is armed");
            assert!(next.as_micros() <= first + TICK_MICROS);
        }
        while let Some(slot) = wheel.pop(Moment::from_micros(now)) {
            let due = model.remove(&slot).expect("only what is armed is due");
            assert!(due <= now);
        }
        assert!(model.values().all(|due| due + TICK_MICROS > now));
        assert_eq!(wheel.armed(), model.len());
    }
});
