//! The dashboard of a real instance under load.

use std::fs;
use std::path::Path;

use crate::browser::{Browser, Complaint, Look};
use crate::scene::{Scene, Size};

const DESK: Look = Look {
    width: 1120,
    height: 1030,
    is_dark: false,
};
const PHONE: Look = Look {
    width: 390,
    height: 844,
    is_dark: true,
};

/// A number that a tile shows, without its unit.
fn tile(name: &str) -> String {
    format!(
        "Number.parseFloat([...document.querySelectorAll('.tile')].find((tile) => \
         tile.firstChild.textContent === '{name}').lastChild.textContent)"
    )
}

/// Whether a plot has drawn something in one of the hues.
fn is_drawn(plot: &str) -> String {
    format!(
        "(() => {{ const canvas = document.querySelector('#plot-{plot} canvas');
          const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
          for (let at = 0; at < pixels.length; at += 4) {{
            const [red, green, blue, alpha] = pixels.slice(at, at + 4);
            if (alpha > 200 && Math.max(red, green, blue) - Math.min(red, green, blue) > 90) return true;
          }}
          return false; }})()"
    )
}

const PLOTS: [&str; 7] = [
    "arrivals", "open", "bytes", "latency", "closes", "refused", "health",
];

fn others_than_network(complaints: Vec<Complaint>) -> Vec<Complaint> {
    complaints
        .into_iter()
        .filter(|complaint| complaint.source != "network")
        .collect()
}

#[test]
fn it_shows_what_a_busy_instance_does() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let scene = Scene::start(Size { backends: 20 });
    browser.look(DESK);
    browser.open(&format!("http://{}/", scene.admin));
    browser.until("document.getElementById('state').textContent === 'ready'");
    for name in ["open", "new", "from clients", "refused"] {
        browser.until(&format!("{} > 0", tile(name)));
    }
    for plot in PLOTS {
        browser.until(&is_drawn(plot));
    }
    // What users chose is text, whatever it looks like.
    browser.until("document.querySelector('#pools').textContent.includes('<b>bold</b>')");
    assert_eq!(
        browser.value("document.querySelectorAll('#pools td b').length"),
        0
    );
    browser.until("document.querySelector('#pools').textContent.includes('refused')");
    browser.until("document.querySelector('#history').textContent.includes('ejected')");
    browser.until("document.querySelector('#plot-refused .legend').textContent.includes('rate')");
    browser.until(
        "document.querySelector('#plot-closes .legend').textContent.includes('client reset')",
    );
    // The numbers are those of the instance.
    let workers = scene.status()["workers"].as_array().unwrap().len();
    assert_eq!(
        browser.value("document.querySelectorAll('#workers tbody tr').length"),
        workers
    );
    assert_eq!(browser.complaints(), []);
}

#[test]
fn it_says_that_nobody_answers_and_goes_on_after_a_restart() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let mut scene = Scene::start(Size { backends: 4 });
    browser.open(&format!("http://{}/", scene.admin));
    browser.until(&format!("{} > 0", tile("new")));
    scene.kill();
    browser.until("document.getElementById('state').textContent === 'no answer'");
    browser.until("!document.getElementById('trouble').hidden");
    scene.start_again();
    browser.until("document.getElementById('state').textContent === 'ready'");
    browser.until("document.getElementById('trouble').hidden");
    let pid = format!("pid {}", scene.pid());
    browser.until(&format!(
        "document.getElementById('facts').textContent.includes('{pid}')"
    ));
    // Counters began anew: no rate below zero, and it has one again.
    browser.until(&format!("{} > 0", tile("new")));
    browser.until("model.samples.some((sample) => sample.restarted)");
    browser.until("model.samples.every((sample) => [...sample.listeners.values()].every(({ rate }) => !(rate < 0)))");
    assert_eq!(others_than_network(browser.complaints()), []);
}

#[test]
fn a_phone_has_all_of_it_side_by_side_with_nothing() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let scene = Scene::start(Size { backends: 30 });
    browser.look(PHONE);
    browser.open(&format!("http://{}/", scene.admin));
    browser.until(&is_drawn("arrivals"));
    assert_eq!(browser.value("document.documentElement.scrollWidth"), 390);
    let ground = browser.text("getComputedStyle(document.body).backgroundColor");
    assert_eq!(ground, "rgb(15, 20, 26)");
    let tops = browser.value(
        "new Set([...document.querySelectorAll('.plots > *')].map((plot) => plot.offsetTop)).size",
    );
    assert_eq!(tops, 8, "one below the other");
    assert_eq!(browser.complaints(), []);
}

#[test]
fn a_thousand_backends_are_sorted_filtered_and_folded() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let scene = Scene::start(Size { backends: 1000 });
    browser.look(DESK);
    browser.open(&format!("http://{}/", scene.admin));
    let rows = "[...document.querySelectorAll('details')].find((pool) => \
        pool.querySelector('b').textContent === 'web').querySelectorAll('tbody tr')";
    browser.until(&format!("{rows}.length === 50"));
    browser.until("document.querySelector('#pools').textContent.includes('900 of 1000 usable')");
    // Those that are down come first.
    browser.until(&format!(
        "[...{rows}].every((row) => row.children[1].textContent === 'down')"
    ));
    browser.value(
        "[...document.querySelectorAll('details > button')].find((more) => !more.hidden).click()",
    );
    browser.until(&format!("{rows}.length === 1000"));
    browser.value(&format!(
        "{rows}[0].closest('table').querySelector('th button').click()"
    ));
    browser.until(&format!("{rows}[0].textContent.startsWith('127.10.0.1:')"));
    browser.until(&format!("{rows}[9].textContent.startsWith('127.10.0.10:')"));
    // A second of drawing them all does not hold the page up.
    let longest_ms = browser.value(
        "new Promise((tell) => { let longest = 0; let last = performance.now(); const ends = last + 7000;
           const beat = () => { const now = performance.now(); longest = Math.max(longest, now - last); last = now;
             if (now > ends) tell(longest); else setTimeout(beat, 10); }; beat(); })");
    eprintln!("longest pause of the page with 1000 rows: {longest_ms} ms");
    browser.value(
        "(() => { const filter = document.getElementById('filter'); filter.value = '127.10.3.23';
           filter.dispatchEvent(new Event('input')); })()",
    );
    browser.until(&format!(
        "[...{rows}].every((row) => row.textContent.startsWith('127.10.3.23'))"
    ));
    browser.value("document.querySelectorAll('details').forEach((pool) => { pool.open = false; })");
    assert_eq!(browser.complaints(), []);
}

#[test]
fn it_rests_while_nobody_looks() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let scene = Scene::start(Size { backends: 2 });
    browser.open(&format!("http://{}/", scene.admin));
    browser.until("model.samples.length > 1");
    browser.value("document.getElementById('pause').click()");
    browser.until("document.getElementById('state').textContent === 'paused'");
    assert_eq!(browser.value("timer"), serde_json::Value::Null);
    browser.value("document.getElementById('pause').click()");
    browser.until("timer !== null || isAsking");
    // As a browser does when the page is behind another.
    browser.value(
        "Object.defineProperty(document, 'hidden', { value: true, configurable: true });
         document.dispatchEvent(new Event('visibilitychange'))",
    );
    browser.until("timer === null && !isAsking");
    let asked = browser.value("model.samples.length");
    browser.value(
        "Object.defineProperty(document, 'hidden', { value: false });
         document.dispatchEvent(new Event('visibilitychange'))",
    );
    browser.until(&format!("model.samples.length > {asked}"));
    assert_eq!(browser.complaints(), []);
}

/// The pictures of the documentation: `scripts/screenshots`.
#[test]
#[ignore = "writes files; run by scripts/screenshots"]
fn screenshots() {
    let folder = std::env::var("RINGWAY_SCREENSHOTS").expect("where to write them");
    let mut browser = Browser::start().expect("chromium");
    let scene = Scene::start(Size { backends: 40 });
    browser.look(DESK);
    browser.open(&format!("http://{}/", scene.admin));
    browser.value("document.getElementById('span').value = '2'");
    // Long enough that lines are lines.
    browser.until("model.samples.length > 20");
    let looks = [
        ("dashboard.png", DESK, "0"),
        (
            "dashboard-dark.png",
            Look {
                is_dark: true,
                ..DESK
            },
            "0",
        ),
        ("dashboard-phone.png", PHONE, "0"),
        (
            "dashboard-pools.png",
            DESK,
            "document.querySelector('#workers').offsetTop - 120",
        ),
    ];
    for (name, look, top) in looks {
        browser.look(look);
        browser.value(&format!("window.scrollTo(0, {top})"));
        let drawn = browser.value("model.samples.length").as_u64().unwrap();
        browser.until(&format!("model.samples.length > {drawn}"));
        fs::write(Path::new(&folder).join(name), browser.picture()).unwrap();
    }
}
