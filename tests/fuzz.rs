//! tmp
#[path = "../fuzz/src/lib.rs"]
mod targets;
#[test]
fn x() {
    for (name, run) in targets::TARGETS {
        for f in std::fs::read_dir(format!("fuzz/corpus/{name}")).unwrap() {
            let p = f.unwrap().path();
            let d = std::fs::read(&p).unwrap();
            if std::panic::catch_unwind(|| run(&d)).is_err() { eprintln!("FAIL {p:?}"); }
        }
    }
}
