//! Many people at once.

use bespoke_plugin_api::serde_json::json;

use crate::kit::{Served, World, config, echo, place};

const PEOPLE: usize = 20;
const EACH: usize = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_messages_of_twenty_people_are_each_answered_once_and_in_order() {
    let (_folder, path) = place();
    let world = World::plain("wire");
    let served = Served::over(&path, config(json!({ "chats": 6 })), vec![world.plug(), echo()]).await;
    for n in 0..EACH {
        for person in 0..PEOPLE {
            world.write(&format!("chat {person}"), &format!("m{n}"), &format!("{person} says {n}"));
            // Some services tell a message more than once.
            if (n + person) % 7 == 0 {
                world.write(&format!("chat {person}"), &format!("m{n}"), &format!("{person} says {n}"));
            }
        }
    }
    world.until(|world| world.sent().len() >= PEOPLE * EACH).await;
    world.until(|_| served.status().waiting == 0 && served.status().outbox == 0).await;
    assert_eq!(world.sent().len(), PEOPLE * EACH);
    for person in 0..PEOPLE {
        let chat = format!("chat {person}");
        let answers: Vec<_> = (0..EACH).map(|n| format!("re {person} says {n}")).collect();
        assert_eq!(world.read(&chat), answers);
        let talk: Vec<_> = (0..EACH).flat_map(|n| [format!("{person} says {n}"), format!("re {person} says {n}")]).collect();
        assert_eq!(served.said("wire", &chat), talk);
    }
    let status = served.status();
    assert_eq!((status.turns, status.repeated, status.dead), ((PEOPLE * EACH) as u64, 0, 0));
    served.end().await;
}
