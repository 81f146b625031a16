//! The value of `workers`: `auto`, a number, or a list of CPUs. Not which CPUs exist: a file is
//! checked on machines other than the one it is for.

use std::collections::BTreeSet;
use std::num::NonZeroU16;

use serde_json::{Value as Json, json};

use crate::amounts::Int;
use crate::compound::List;
use crate::grammar::Grammar;
use crate::limits::WORKERS_MAX;
use crate::model::Workers;
use crate::tree::{Node, Value};
use crate::walk::Lowering;

/// The value of `workers`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct WorkerChoice(pub(crate) Workers);

/// A CPU, as the kernel numbers them.
type Cpu = Int<0, 65_535>;
type Cpus = List<Cpu, 1, { WORKERS_MAX as usize }>;

impl Grammar for WorkerChoice {
    fn expected() -> String {
        "`auto`, a whole number, or a list of CPUs such as `[0, 2, 4]`".to_owned()
    }

    fn lower(node: &Node, cx: &mut Lowering<'_, '_>) -> Option<Self> {
        let workers = match &node.value {
            Value::Text(text) if text == "auto" => Workers::Auto,
            Value::Integer(_) => {
                let Int(count) = Int::<1, WORKERS_MAX>::lower(node, cx)?;
                Workers::Count(u16::try_from(count).ok().and_then(NonZeroU16::new)?)
            }
            Value::Sequence(_) => Workers::Cpus(cpus(node, cx)?),
            Value::Text(_)
            | Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Mapping(_)
            | Value::Refused => {
                cx.mismatch(node, &Self::expected());
                return None;
            }
        };
        Some(WorkerChoice(workers))
    }

    fn schema() -> Json {
        json!({"anyOf": [{"const": "auto"}, Int::<1, WORKERS_MAX>::schema(), Cpus::schema()]})
    }
}

fn cpus(node: &Node, cx: &mut Lowering<'_, '_>) -> Option<Vec<u16>> {
    let List(items) = Cpus::lower(node, cx)?;
    let mut seen = BTreeSet::new();
    for item in &items {
        if let Some(Int(cpu)) = item.get()
            && !seen.insert(*cpu)
        {
            cx.reject_field(item, format!("CPU {cpu} is listed twice"));
        }
    }
    items
        .iter()
        .map(|item| item.get().and_then(|Int(cpu)| u16::try_from(*cpu).ok()))
        .collect()
}
