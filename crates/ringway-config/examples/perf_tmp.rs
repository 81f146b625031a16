use std::time::Instant;
fn main() {
    let mib = 1 << 20;
    let rep = |s: &str| s.repeat(mib / s.len());
    let mut cases: Vec<(&str, String)> = vec![
        ("brackets", rep("[")), ("braces", rep("{")), ("curly keys", rep("{a: ")), ("dashes", rep("- ")), ("question", rep("? ")),
        ("colons", rep(": ")), ("anchors", rep("&a ")), ("aliases", rep("*a ")), ("quotes", rep("'")), ("dq", rep("\"a\" ")),
        ("tags", rep("!a ")), ("percent", rep("%a\n")), ("docs", rep("---\n")), ("list", format!("a: [{}]", "1,".repeat(mib/2-8))),
        ("items", rep("- 1\n")), ("nulls", rep("-\n")), ("one word", rep("a")), ("words", rep("a ")), ("pipes", format!("a: |\n{}", " x\n".repeat(mib/4))),
        ("spaces", rep(" ")), ("newlines", rep("\n")), ("comments", rep("#\n")), ("flow maps", format!("a: [{}]", "{},".repeat(mib/3-8))),
        ("flow pairs", format!("[{}]", "a: b,".repeat(mib/5-8))),
        ("long key", format!("{}: 1", "k".repeat(mib - 10))),
        ("multi-line plain", rep("a\n")), ("dq multi", format!("a: \"{}\"", "x\n ".repeat(mib/3-10))),
        ("dup keys", rep("a: 1\n")),
        ("bad quotes in flow", format!("[{}", "\"a\",".repeat(mib/4-2))),
        ("q in flow", format!("[{}]", "? a,".repeat(mib/4-2))),
        ("dash anchors", rep("- &a b\n")),
    ];
    cases.push(("unknown keys", (0..100_000).map(|i| format!("kk{i}: 1\n")).collect::<String>().chars().take(mib).collect()));
    let pools: String = (0..1000).map(|i| format!("  pool-number-{i}: {{backends: [{{address: '127.0.0.1:1'}}]}}\n")).collect();
    let ls: String = (0..1000).map(|i| format!("  l{i}: {{bind: '127.0.0.1:0', pool: pool_nmbr_{i}xx}}\n")).collect();
    cases.push(("pools", format!("listeners:\n{ls}pools:\n{pools}")));
    let ls: String = (0..1000).map(|i| format!("  l{i}: {{bind: '127.0.0.1:0', pool: pool-number-{i}}}\n")).collect();
    cases.push(("valid 1000", format!("listeners:\n{ls}pools:\n{pools}")));
    let be: String = (0..4096).map(|i| format!("      - {{address: '10.0.{}.{}:1', weight: 2, backup: false, max_connections: off}}\n", i/256, i%256)).collect();
    cases.push(("valid 4096 backends", format!("listeners: {{l: {{bind: '127.0.0.1:0', pool: p}}}}\npools:\n  p:\n    backends:\n{be}")));
    let many: String = (0..1000).map(|i| format!("  l{i}: {{bind: '127.0.0.1:0', pool: p}}\n")).collect();
    cases.push(("loop check", format!("listeners:\n{many}pools:\n  p:\n    backends:\n{be}")));
    for (n, t) in cases {
        let s = Instant::now();
        let r = ringway_config::parse("f", &t);
        let d = s.elapsed();
        let m = match &r { Ok(_) => "ok".to_string(), Err(e) => format!("{} {}", e.problems().len(), e.problems()[0].message().chars().take(90).collect::<String>()) };
        println!("{:>10.1?} {n} ({} B): {m}", d, t.len());
    }
}
