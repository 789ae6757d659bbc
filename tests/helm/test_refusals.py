"""Values that cannot work are refused with a sentence that names them."""

import pytest
from chart import Refused, rendered, values_of

SASL = (
    "settings.kafka.security_protocol=SASL_SSL",
    "secrets.kafka.sasl_password.secret=kafka",
    "settings.kafka.sasl_username=flywheel",
)
GUARDED = [
    (["settings.lake.catalog=sqlite"], "settings.lake.catalog is sqlite"),
    (["settings.lake.uri="], "settings.lake.uri is empty"),
    (["settings.lake.uri=jdbc:sqlite:/data/catalog.db"], "settings.lake.uri names SQLite"),
    (
        ["settings.lake.uri=/data/catalog.db"],
        "settings.lake.uri is /data/catalog.db, and settings.lake.catalog is jdbc",
    ),
    (["settings.lake.uri=https://catalog"], "settings.lake.uri is https://catalog, and settings.lake.catalog is jdbc"),
    (["settings.lake.catalog=rest"], "settings.lake.uri is jdbc:postgresql://"),
    (["settings.lake.uri=jdbc:postgresql://h/db?password=x"], "settings.lake.uri holds a password"),
    (["settings.lake.uri=jdbc:postgresql://me:x@h/db"], "settings.lake.uri holds a password"),
    (["objectStore.env.AWS_SECRET_ACCESS_KEY=x"], "objectStore.env.AWS_SECRET_ACCESS_KEY would be readable"),
    (["settings.lake.warehouse=s3a://lake"], "settings.lake.warehouse is s3a://lake, and the release has several pods"),
    (["settings.lake.warehouse=/data/warehouse"], "settings.lake.warehouse is the local path /data/warehouse"),
    (["settings.lake.warehouse=file:///data"], "settings.lake.warehouse is the local path file:///data"),
    (["settings.model.artifacts=null"], "settings.model.artifacts is empty"),
    (["settings.store.registry=feast"], "settings.store.registry is the local path feast"),
    (["settings.kafka.bootstrap_servers="], "settings.kafka.bootstrap_servers is empty"),
    (["settings.kafka.security_protocol=SASL_SSL"], "settings.kafka.sasl_mechanism is empty"),
    (
        ["settings.kafka.security_protocol=SASL_SSL", "settings.kafka.sasl_mechanism=PLAIN"],
        "secrets.kafka.sasl_password.secret is empty",
    ),
    ([SASL[0], SASL[1], "settings.kafka.sasl_mechanism=PLAIN"], "settings.kafka.sasl_username is empty"),
    ([*SASL, "settings.kafka.sasl_mechanism=OAUTHBEARER"], "settings.kafka.sasl_token_url is empty"),
    (
        ["settings.kafka.sasl_mechanism=PLAIN"],
        "settings.kafka.sasl_mechanism is PLAIN, and settings.kafka.security_protocol",
    ),
    (["settings.lake.driver_memory=3500m"], "jobs.common.resources.limits.memory is 4Gi, and Spark's heap"),
    (
        ["settings.lake.driver_memory=2g", "jobs.maintain.resources.limits.memory=2Gi"],
        "jobs.maintain.resources.limits.memory is 2Gi, and Spark's heap",
    ),
    (["settings.serving.event_spool_mb=1100"], "collector.spool.size is 2Gi, and two spools"),
    (["settings.serving.collector_workers=8"], "for each of settings.serving.collector_workers, 8, must find room"),
    (
        ["updater.keda.enabled=true", "settings.kafka.ssl_certfile=/c/tls.crt"],
        "updater.keda.triggers is empty, and settings.kafka.ssl_certfile",
    ),
    (["monitoring.rules.enabled=true"], "monitoring.rules.enabled is true while monitoring.scrape.enabled is false"),
    (
        ["ingress.enabled=true", "ingress.recommender=a.example", "ingress.collector=a.example"],
        "ingress.recommender and ingress.collector share a host",
    ),
    (
        ["ingress.enabled=true", "ingress.recommender=a.example", "recommender.enabled=false"],
        "ingress.enabled is true, and no service that is enabled has a host",
    ),
    (["secrets.store.redis_url.secret="], "secrets.store.redis_url.secret is empty"),
    (["secrets.kafka.erasure_key.secret="], "secrets.kafka.erasure_key.secret is empty"),
    (["apiKeys.secret="], "apiKeys.secret is empty"),
    (["monitoring.scrape.enabled=true"], "monitoring.scrape.key.secret is empty"),
    (["tests.enabled=true"], "tests.key.secret is empty"),
    (["recommender.replicas=1"], "recommender.pdb.enabled is true with a single replica"),
    (
        ["updater.hpa.enabled=true", "updater.keda.enabled=true"],
        "updater.hpa.enabled and updater.keda.enabled are both true",
    ),
    (["recommender.hpa.enabled=true", "recommender.hpa.minReplicas=20"], "recommender.hpa.minReplicas is more than"),
    (["updater.replicas=5"], "updater may have 5 replicas and settings.kafka.partitions is 4"),
    (
        ["recommender.terminationGracePeriodSeconds=15"],
        "recommender.terminationGracePeriodSeconds is 15, and the pod needs 20",
    ),
    (["collector.spool.enabled=false", "settings.serving.event_spool_mb=10"], "settings.serving.event_spool_mb is set"),
    (
        ["collector.hpa.enabled=true", "collector.hpa.behavior.scaleDown.selectPolicy=Max"],
        "collector.hpa.behavior.scaleDown.selectPolicy must be Disabled",
    ),
    (["collector.keda.enabled=true"], "collector.keda.enabled is true while collector.spool.enabled"),
    (["recommender.keda.enabled=true"], "recommender.keda.triggers is empty while recommender.keda.enabled"),
    (
        ["settings.kafka.security_protocol=SASL_SSL", "settings.kafka.sasl_mechanism=OAUTHBEARER"],
        "secrets.kafka.sasl_password.secret is empty",
    ),
    (
        ["updater.keda.enabled=true", *SASL, "settings.kafka.sasl_mechanism=AWS_MSK_IAM"],
        "updater.keda.triggers is empty, and settings.kafka.sasl_mechanism is AWS_MSK_IAM",
    ),
    (
        ["updater.keda.enabled=true", *SASL, "settings.kafka.sasl_mechanism=PLAIN"],
        "updater.keda.saslUsername.secret is empty",
    ),
    (["train.pods=2", "settings.model.checkpoint_steps=100"], "train.checkpoints.claim is empty"),
    (["jobs.backup.enabled=true"], "jobs.backup.target is empty"),
    (
        ["jobs.backup.enabled=true", "jobs.backup.target=file:///backups"],
        "jobs.backup.target is file:///backups, and the images speak S3 alone",
    ),
    (
        ["gateway.enabled=true", "gateway.parentRefs[0].name=edge"],
        "gateway.enabled is true, and no service that is enabled has a host",
    ),
    (
        ["tests.enabled=true", "tests.key.secret=key", "collector.enabled=false"],
        "tests.enabled is true, and the test asks both services",
    ),
    (["spark.mode=operator"], "spark.image.repository is empty"),
    (
        ["ingress.enabled=true", "ingress.recommender=a.example", "gateway.enabled=true"],
        "ingress.enabled and gateway.enabled",
    ),
    (["ingress.enabled=true"], "ingress.enabled is true, and no service that is enabled has a host: give one"),
    (["gateway.enabled=true"], "gateway.parentRefs is empty"),
]
MISTYPED = [
    ("settings.kafka.partitoins=3", "/settings/kafka"),
    ("settings.store.redis_url=redis://x", "/settings/store"),
    ("settings.serving.api_keys_file=/keys", "/settings/serving"),
    ("settings.kafka.partitions=0", "/settings/kafka/partitions"),
    ("settings.namespace=Shop", "/settings/namespace"),
    ("recommender.replicas=many", "/recommender/replicas"),
    ("recommender.replica=3", "/recommender"),
    ("landing.mode=both", "/landing/mode"),
    ("landing.replicas=2", "/landing"),
    ("images.services.digest=sha256:abc", "/images/services/digest"),
    ("objectStore.env.FLYWHEEL_HOME=/x", "/objectStore/env/FLYWHEEL_HOME"),
    ("defaults.homeSize=big", "/defaults/homeSize"),
]


@pytest.mark.parametrize(("sets", "sentence"), GUARDED, ids=[sentence for _, sentence in GUARDED])
def test_what_one_value_asks_of_another_is_one_sentence(sets: list[str], sentence: str) -> None:
    rendered(values_of("default"))
    with pytest.raises(Refused) as refused:
        rendered(values_of("default"), sets=sets)
    assert sentence in refused.value.sentence
    assert refused.value.sentence.count("execution error") == 1


@pytest.mark.parametrize(("one", "path"), MISTYPED, ids=[one for one, _ in MISTYPED])
def test_a_value_that_is_misspelt_or_of_the_wrong_type_is_named_by_its_path(one: str, path: str) -> None:
    with pytest.raises(Refused) as refused:
        rendered(values_of("default"), sets=[one])
    assert f"at '{path}'" in refused.value.sentence


def test_without_any_value_the_first_thing_to_set_is_named() -> None:
    with pytest.raises(Refused, match=r"settings\.kafka\.bootstrap_servers is empty: set it to the host:port list"):
        rendered()


def test_a_password_among_the_settings_is_refused_and_not_repeated() -> None:
    with pytest.raises(Refused) as refused:
        rendered(values_of("default"), sets=["settings.lake.catalog_password=hunter2"])
    assert "hunter2" not in refused.value.sentence
