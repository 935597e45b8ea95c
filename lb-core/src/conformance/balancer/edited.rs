//! Somebody edits the balancer's files behind its back.

use std::fs;
use std::path::Path;

use super::bed::Bed;
use super::site::Site;
use crate::model::FileName;

/// It is noticed, also by a later process, and the next table has every file written anew. Clients notice nothing.
/// Needs `directory` of the setup.
pub async fn files_edited_by_hand_are_noticed_and_written_anew(bed: &Bed) {
    let (a, b) = (Site::http(1).await, Site::http(2).await);
    let table = bed.http(&[&a, &b]);
    bed.apply(&table).await;
    let written = bed.balancer.files().await.unwrap();
    let directory = bed.setup.directory();
    let spoils: [fn(&Path); 3] = [
        |path| {
            let text = fs::read_to_string(path).unwrap();
            fs::write(path, format!("{text}# my own line\n")).unwrap();
        },
        |path| fs::write(path, "# nothing\n").unwrap(),
        |path| fs::remove_file(path).unwrap(),
    ];
    for (spoil, by_later) in spoils.into_iter().zip([false, true, false]) {
        for name in written.keys() {
            assert!(bed.serves(&table).await, "{name}");
            spoil(&directory.join(FileName::as_str(name)));
            let balancer = match by_later {
                true => bed.setup.balancer().await,
                false => bed.balancer.clone(),
            };
            let shown = balancer.traffic().await.unwrap().table;
            assert_eq!(shown, None, "{name}: nobody knows what serves");
            assert_eq!(bed.get("/").await.status, 200, "{name}");
            balancer.apply(&table).await.unwrap();
            assert_eq!(balancer.files().await.unwrap(), written, "{name}");
            assert_eq!(balancer.traffic().await.unwrap().table, Some(table.hash()), "{name}");
            assert_eq!(bed.get("/").await.status, 200, "{name}");
        }
    }
}
