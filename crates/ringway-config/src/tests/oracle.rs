//! A second reader of YAML: both must see the same tree in what Ringway ships.

use serde_yaml::Value as Yaml;

use super::WHOLE;
use crate::problem::Collector;
use crate::tree::{self, Node, Value};

fn to_yaml(node: &Node) -> Yaml {
    match &node.value {
        Value::Null => Yaml::Null,
        Value::Bool(value) => (*value).into(),
        Value::Integer(integer) => (*integer).into(),
        Value::Number(text) => text.parse::<f64>().expect("a number").into(),
        Value::Text(text) => text.as_str().into(),
        Value::Sequence(items) => Yaml::Sequence(items.iter().map(to_yaml).collect()),
        Value::Mapping(entries) => Yaml::Mapping(
            entries
                .iter()
                .map(|(key, node)| (key.text.as_str().into(), to_yaml(node)))
                .collect(),
        ),
        Value::Refused => panic!("refused"),
    }
}

fn assert_same(text: &str) {
    let mut found = Collector::new("f", text);
    let tree = tree::read(text, &mut found);
    assert_eq!(
        found.finish().map(|errors| errors.to_string()),
        None,
        "{text}"
    );
    let oracle: Yaml = serde_yaml::from_str(text).expect("YAML");
    assert_eq!(to_yaml(&tree.expect("no error")), oracle, "{text}");
}

#[test]
fn both_read_every_example_to_the_same_tree() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the examples") {
        let path = entry.expect("an entry").path();
        if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            assert_same(&std::fs::read_to_string(&path).expect("text"));
            count += 1;
        }
    }
    assert!(count >= 4, "{count} examples in {folder}");
    assert_same(WHOLE);
}

#[test]
fn both_read_the_forms_of_yaml_alike() {
    for text in [
        "a: 1\r\nb: [x, 'y', \"z\\n\"]\r\n",
        "---\na: off\nb: \"8\"\nc: 8\nd: ~\ne:\n",
        "a: |\n  x\n   y\nb: >-\n  folded\n  text\n",
        "{a: {b: {c: [[1, -2], [0x1F, 0o17]]}}}",
        "a: 1.5 # comment\n# comment\nb: plain words # not # this\n",
        "- a\n- - b\n  - c\n- d: e\n  f: g\n",
        "\"quoted key\": 'it''s'\n",
        "? long\n: value\n",
        "a: true\nb: False\nc: no\nd: 'true'\n",
    ] {
        assert_same(text);
    }
}
