//! What the HTTP API and discovery ask for, installations and groups, on both engines.

use super::damage::copy_of;
use super::*;

/// A store on each engine. The directory is that of the one on disk.
async fn engines() -> (TempDir, StoreThreads, [Store; 2]) {
    let dir = TempDir::new().unwrap();
    let (store, threads) = Store::open(dir.path()).await.unwrap();
    (dir, threads, [store, Store::in_memory()])
}

fn of_project(project: &str, operation: &str) -> WatchKey {
    WatchKey {
        project: project.into(),
        operation: operation.into(),
    }
}

#[tokio::test]
async fn what_a_source_asks_for_is_kept_until_it_is_withdrawn() {
    let (_dir, threads, stores) = engines().await;
    for store in stores {
        let of_api = |operation: &str, customer: &str| source_entry(key(operation), Source::Api, customer);
        let other = source_entry(of_project("q", "a"), Source::Api, "other");
        let all = vec![of_api("a", "acme"), of_api("b", "acme"), other.clone()];
        assert_eq!(store.put_source_entries(all).await.unwrap(), [true, true, true]);
        let again = vec![of_api("c", "gale"), of_api("b", "gale"), of_api("c", "dune")];
        assert_eq!(
            store.put_source_entries(again).await.unwrap(),
            [true, false, false],
            "the last one applies"
        );
        let discovered = source_entry(key("a"), Source::Discovery, "acme");
        let added = store.put_source_entries(vec![discovered.clone()]).await;
        assert_eq!(added.unwrap(), [true], "each source has its own");
        let all = [
            of_api("a", "acme"),
            of_api("b", "gale"),
            of_api("c", "dune"),
            discovered.clone(),
        ];
        assert_eq!(all_entries(&store, "p").await, all);
        assert_eq!(all_entries(&store, "q").await, [other]);
        assert_eq!(all_entries(&store, "r").await, []);

        let withdraw =
            async |operation: &str, source| store.withdraw_source_entry(key(operation), source).await;
        assert_eq!(withdraw("a", Source::Api).await, Ok(Withdrawal::Withdrawn));
        assert_eq!(withdraw("a", Source::Api).await, Ok(Withdrawal::AlreadyWithdrawn));
        assert_eq!(withdraw("b", Source::Discovery).await, Ok(Withdrawal::NeverAdded));
        assert_eq!(withdraw("d", Source::Api).await, Ok(Withdrawal::NeverAdded));
        assert_eq!(all_entries(&store, "p").await, all[1..]);
        let again = store
            .put_source_entries(vec![of_api("a", "acme"), of_api("b", "gale")])
            .await;
        assert_eq!(again.unwrap(), [true, false]);
        assert_eq!(all_entries(&store, "p").await, all);
        assert_eq!(withdraw("a", Source::Api).await, Ok(Withdrawal::Withdrawn));
    }
    threads.close().await.unwrap();
}

#[tokio::test]
async fn an_entry_expires_unless_it_was_put_since() {
    let (_dir, threads, stores) = engines().await;
    for store in stores {
        let entry = |operation: &str| source_entry(key(operation), Source::Api, "acme");
        let entries = ["a", "b", "withdrawn"].map(entry).to_vec();
        store.put_source_entries(entries).await.unwrap();
        store
            .withdraw_source_entry(key("withdrawn"), Source::Api)
            .await
            .unwrap();
        let expire = async |older_than| {
            let entries = ["a", "missing", "withdrawn"].map(|operation| (key(operation), Source::Api));
            store.expire_source_entries(entries.to_vec(), older_than).await
        };
        assert_eq!(expire(now() - HOUR).await.unwrap(), [false, true, true]);
        assert_eq!(all_entries(&store, "p").await.len(), 2);
        assert_eq!(expire(now()).await.unwrap(), [true, true, true]);
        assert_eq!(all_entries(&store, "p").await, [entry("b")]);
        assert_eq!(
            store.withdraw_source_entry(key("withdrawn"), Source::Api).await,
            Ok(Withdrawal::AlreadyWithdrawn),
            "that is remembered"
        );
    }
    threads.close().await.unwrap();
}

#[tokio::test]
async fn what_discovery_finds_is_recorded_with_its_installations() {
    let (_dir, threads, stores) = engines().await;
    for store in stores {
        let id = |number: u32| Arc::<str>::from(format!("installation-{number:04}"));
        let all: Vec<_> = (0..2_500)
            .map(|number| (id(number), installation("acme")))
            .collect();
        let stored = all.iter().cloned().map(|(id, state)| (id, Some(state)));
        let found = vec![source_entry(key("a"), Source::Discovery, "acme")];
        store
            .record_discovery("p".into(), stored.collect(), found.clone())
            .await
            .unwrap();
        let other = vec![(id(0), Some(installation("other")))];
        store
            .record_discovery("q".into(), other, Vec::new())
            .await
            .unwrap();
        assert_eq!(all_entries(&store, "p").await, found);
        assert_eq!(store.load_installations("p".into()).await.unwrap(), all);

        let changes = vec![
            (id(1), None),
            (id(2), Some(installation("gale"))),
            (id(9_999), None),
        ];
        store
            .record_discovery("p".into(), changes, Vec::new())
            .await
            .unwrap();
        let after = store.load_installations("p".into()).await.unwrap();
        assert_eq!(after.len(), 2_499);
        assert_eq!(after[1], (id(2), installation("gale")));
        let other = store.load_installations("q".into()).await.unwrap();
        assert_eq!(other, [(id(0), installation("other"))]);
    }
    threads.close().await.unwrap();
}

#[tokio::test]
async fn a_round_of_a_group_is_recorded_with_its_event() {
    let (_dir, threads, stores) = engines().await;
    for store in stores {
        for (value, completed) in [("acme", 1), ("gale", 1), ("acme", 2)] {
            store.commit(&group_change(value, completed)).await.unwrap();
        }
        let record = |value, completed| {
            let record = GroupRecord {
                completed,
                ..GroupRecord::default()
            };
            (GroupId::new("group", value), record)
        };
        let groups = store.load_groups("p".into()).await.unwrap();
        assert_eq!(groups, [record("acme", 2), record("gale", 1)]);
        assert_eq!(store.load_groups("q".into()).await.unwrap(), []);
        assert_eq!(all_events(&store).await.len(), 3);
    }
    threads.close().await.unwrap();
}

#[tokio::test]
async fn what_sources_ask_for_is_there_after_a_crash_and_after_a_restart() {
    let (dir, threads, [store, _]) = engines().await;
    // More than a page, in two projects.
    let mut entries = Vec::new();
    for number in 0..1_200 {
        entries.push(source_entry(key(&format!("op-{number}")), Source::Api, "acme"));
        entries.push(source_entry(
            of_project("q", &format!("op-{number}")),
            Source::Api,
            "gale",
        ));
    }
    for chunk in entries.chunks(1_000) {
        store.put_source_entries(chunk.to_vec()).await.unwrap();
    }
    store
        .withdraw_source_entry(key("op-7"), Source::Api)
        .await
        .unwrap();
    store
        .record_discovery(
            "p".into(),
            vec![("i".into(), Some(installation("acme")))],
            Vec::new(),
        )
        .await
        .unwrap();
    store.commit(&group_change("acme", 1)).await.unwrap();

    let crashed = copy_of(dir.path());
    threads.close().await.unwrap();
    for dir in [crashed, dir] {
        let (store, threads) = Store::open(dir.path()).await.unwrap();
        assert_eq!(store.health().damaged_rows, 0);
        for project in ["p", "q"] {
            let expected = entries
                .iter()
                .filter(|entry| &*entry.key.project == project && entry.key != key("op-7"));
            assert!(
                all_entries(&store, project).await.iter().eq(expected),
                "{project}"
            );
        }
        let installations = store.load_installations("p".into()).await.unwrap();
        assert_eq!(installations, [("i".into(), installation("acme"))]);
        assert_eq!(store.load_groups("p".into()).await.unwrap().len(), 1);
        assert_eq!(
            store.withdraw_source_entry(key("op-7"), Source::Api).await,
            Ok(Withdrawal::AlreadyWithdrawn)
        );
        threads.close().await.unwrap();
    }
}

#[tokio::test]
async fn watches_of_other_sources_are_no_lines_of_the_watch_list() {
    let (_dir, threads, stores) = engines().await;
    for store in stores {
        let operations = ["file", "removed", "api", "both", "withdrawn"];
        let states = operations.map(|operation| (key(operation), Watch::default()));
        store.checkpoint(states.to_vec()).await.unwrap();
        let entries =
            ["api", "both", "withdrawn"].map(|operation| source_entry(key(operation), Source::Api, "acme"));
        store.put_source_entries(entries.to_vec()).await.unwrap();
        store
            .withdraw_source_entry(key("withdrawn"), Source::Api)
            .await
            .unwrap();

        let listed = || vec![key("file"), key("both")];
        let mut before = store.listed_before(vec!["p".into()], listed()).await.unwrap();
        before.absent.sort_unstable();
        assert_eq!(before.total, 3);
        assert_eq!(before.absent, [key("removed"), key("withdrawn")]);

        store.reconcile_listed(listed(), now()).await.unwrap();
        let watches = store.load(operations.map(key).to_vec()).await.unwrap().watches;
        let unlisted: HashSet<_> = watches
            .into_iter()
            .filter_map(|(key, record)| record.unlisted.map(|_| key))
            .collect();
        assert_eq!(unlisted, [key("removed"), key("withdrawn")].into());
    }
    threads.close().await.unwrap();
}

#[tokio::test]
async fn withdrawn_entries_are_deleted_with_their_watch_or_after_the_retention() {
    let (_dir, threads, stores) = engines().await;
    for store in stores {
        let begin = now();
        let operations = ["unlisted", "returning", "listed"];
        let states = operations.map(|operation| (key(operation), Watch::default()));
        store.checkpoint(states.to_vec()).await.unwrap();
        let entries = ["unlisted", "returning", "listed", "never stored"]
            .map(|operation| source_entry(key(operation), Source::Api, "acme"));
        store.put_source_entries(entries.to_vec()).await.unwrap();
        let withdraw = async |operation: &str| {
            store
                .withdraw_source_entry(key(operation), Source::Api)
                .await
                .unwrap()
        };
        for operation in ["unlisted", "listed", "never stored"] {
            assert_eq!(withdraw(operation).await, Withdrawal::Withdrawn);
        }
        // The watch of `returning` is about to be listed again.
        let old = begin - 31 * DAY;
        store
            .set_unlisted(vec![key("unlisted"), key("returning")], old)
            .await
            .unwrap();
        assert_eq!(
            store.prune(begin + HOUR, 30 * DAY).await,
            Ok(2),
            "watch and entry"
        );
        let left = store.load(operations.map(key).to_vec()).await.unwrap().watches;
        assert_eq!(left.len(), 2);
        assert_eq!(withdraw("unlisted").await, Withdrawal::NeverAdded);
        assert_eq!(withdraw("listed").await, Withdrawal::AlreadyWithdrawn);
        assert_eq!(withdraw("never stored").await, Withdrawal::AlreadyWithdrawn);

        assert_eq!(store.prune(begin + 31 * DAY, 30 * DAY).await, Ok(2));
        assert_eq!(withdraw("listed").await, Withdrawal::NeverAdded);
        assert_eq!(withdraw("never stored").await, Withdrawal::NeverAdded);
        assert_eq!(withdraw("returning").await, Withdrawal::Withdrawn);
    }
    threads.close().await.unwrap();
}
