"""Which test runs each block of code on the pages: ``test_every_block.py`` holds the pages to this table.

A line has a language, a text that the block has in it, and the test. An empty text stands for all blocks of the
language on the page.

``CHECKED`` has the blocks that a test reads but cannot run, each with the reason.
"""

from __future__ import annotations

from typing import NamedTuple


class Runs(NamedTuple):
    """Some blocks of a page, and the test that runs them.

    :ivar language: as it stands behind the fence.
    :ivar sign: a text that the block has; ``""``: any block of the language.
    :ivar test: the test's full name.
    """

    language: str
    sign: str
    test: str


_README = "tests.live.test_readme.ReadmeTest."
_BLOCKS = "tests.live.test_page_blocks."
_BROWSER = "tests.browser.test_page_blocks."
_DJANGO = "tests.live.test_django."
_FRAMEWORKS = "tests.live.frameworks."
_POSTGRES = "tests.postgres.test_postgresql_page."
_PROXIES = "tests.deploy.test_proxies_page."
_PUBLISHING = "tests.live.test_publishing_page."
_CLIENT = "tests.live.test_python_client_page.PageTest."
_CONTAINERS = "tests.live.test_containers_page."
_PROTOCOL = "tests.unit.test_protocol_page.BytesTest."
_SIGHT = "tests.live.test_sight_pages."
_STEPS = "tests.live.test_steps."
_TUTORIAL = "tests.browser.test_tutorial.TutorialTest."
_LIVE = "tests.browser.test_live_docs.DocsTest."
_USAGE = "tests.live.test_usage_pages.UsagePageTest."

RUN: dict[str, list[Runs]] = {
    "README.md": [
        Runs("sh", "deploy/gunicorn.conf.py", _README + "test_the_first_line_runs_the_board_from_a_bare_clone"),
        Runs("console", "curl -N", _README + "test_the_events_shown_are_the_bytes_a_stream_has"),
        Runs("python", "Flask(__name__)", _README + "test_the_flask_app_runs_under_the_configuration_shown"),
        Runs("python", "hub.log.transaction()", _README + "test_rows_and_event_and_the_snapshot"),
        Runs("js", "EventSource", _BROWSER + "WholeAppTest.test_the_app_of_the_readme"),
        Runs("sh", "gunicorn -k", _BROWSER + "WholeAppTest.test_the_app_of_the_readme"),
    ],
    "access.md": [
        Runs("python", "def logout()", _USAGE + "test_a_logout"),
        Runs("python", "hub.ticket(", _USAGE + "test_a_ticket"),
        Runs("js", "EventSource.CLOSED", _BROWSER + "SnippetTest.test_a_refusal_leads_to_the_login"),
    ],
    "answers.md": [
        Runs(
            "python",
            "",
            "tests.live.test_answers_page.AnswersTest.test_the_whole_server_is_killed_and_started_again",
        ),
        Runs("html", "", _BROWSER + "WholeAppTest.test_the_page_of_an_answer"),
    ],
    "board.md": [
        Runs("sh", "curl", _BLOCKS + "BoardTest.test_the_requests"),
        Runs("sh", "sse-threaded serve", _BLOCKS + "BoardTest.test_the_commands"),
    ],
    "clients.md": [
        Runs(
            "text", "stream-start", "tests.quality.test_every_block.BytesTest.test_the_bytes_of_the_clients_page"
        ),
        Runs("text", "event: paid", "tests.quality.test_every_block.BytesTest.test_the_bytes_of_the_clients_page"),
        Runs("js", "fetchEventSource", _BROWSER + "SnippetTest.test_fetch_event_source"),
        Runs("html", "data-init", _BROWSER + "SnippetTest.test_datastar"),
        Runs("python", "connect_sse", _BLOCKS + "ClientCommandsTest.test_the_loop_of_the_clients_page"),
        Runs("html", "x-data", "tests.browser.test_recipes.RecipesTest.test_alpine"),
        Runs("jsx", "", "tests.browser.test_recipes.RecipesTest.test_react"),
    ],
    "containers.md": [
        Runs("python", "def is_alive", _CONTAINERS + "AppTest.test_its_probes"),
        Runs("python", "worker_tmp_dir", _CONTAINERS + "ReadOnlyTest.test_one_writable_folder_is_enough"),
        Runs("dockerfile", "CMD", _CONTAINERS + "SignalTest.test_as_pid_1_it_ends_its_streams_on_sigterm"),
        Runs("sh", "exec gunicorn", _CONTAINERS + "SignalTest.test_behind_a_script_that_ends_with_exec"),
        Runs("yaml", "healthcheck", _CONTAINERS + "AppTest.test_its_probes"),
        Runs("yaml", "kind:", _CONTAINERS + "ConfigurationTest.test_ports_and_names"),
        Runs(
            "yaml",
            "redis-server",
            "tests.redis.test_containers_page_redis.ReplicasTest."
            "test_a_client_of_one_gets_the_events_of_the_other_and_may_go_there",
        ),
    ],
    "deployment.md": [
        Runs("text", "ExecStart", _BLOCKS + "PythonTest.test_the_line_for_systemd"),
        Runs(
            "text",
            "ACL SETUSER",
            "tests.redis.test_log_redis.DenialTest.test_a_user_who_lacks_a_right_is_told_which",
        ),
        Runs("python", "EVENTS_URL", _BLOCKS + "PythonTest.test_the_line_for_the_place_of_the_log"),
        Runs("python", "forwarder_headers", _BLOCKS + "PythonTest.test_the_settings_against_header_fields"),
    ],
    "django.md": [
        Runs("python", "INSTALLED_APPS", _DJANGO + "PageTest.test_a_project_that_is_right"),
        Runs("python", "def order_events", _DJANGO + "PageTest.test_the_views_under_the_worker"),
        Runs("python", "DATABASES = {", _DJANGO + "PageTest.test_a_project_that_is_right"),
        Runs("python", "def orders(request", _DJANGO + "PageTest.test_the_views_under_the_worker"),
        Runs("python", "SSE_THREADED = {", _POSTGRES + "DjangoPageTest.test_the_defaults_of_the_setting"),
        Runs("python", "LiveServerTestCase", _DJANGO + "PageTest.test_the_tests_of_the_page_pass"),
        Runs(
            "python",
            "on_commit(lambda: hub.publish",
            _DJANGO + "AfterCommitTest.test_as_the_page_shows_it_a_failure_is_logged_and_the_answer_is_a_success",
        ),
    ],
    "frameworks.md": [
        Runs("sh", "", _BLOCKS + "ServerCommandsTest.test_the_command_of_the_frameworks_page"),
        Runs("python", "return hub.stream(environ", _FRAMEWORKS + "test_frameworks.WsgiTest.test_under_gthread"),
        Runs(
            "python",
            'app.post("/orders")\ndef order() -> tuple',
            _FRAMEWORKS + "test_frameworks.FlaskTest.test_under_gthread",
        ),
        Runs("python", "settings.configure", _FRAMEWORKS + "test_frameworks.DjangoTest.test_under_gthread"),
        Runs("python", "def log_out", _FRAMEWORKS + "test_django_streams.SQLiteTest.test_under_gthread"),
        Runs("python", "from bottle", _FRAMEWORKS + "test_frameworks.BottleTest.test_under_gthread"),
        Runs("python", "import falcon", _FRAMEWORKS + "test_frameworks.FalconTest.test_under_gthread"),
        Runs("python", "pyramid.config", _FRAMEWORKS + "test_frameworks.PyramidTest.test_under_gthread"),
        Runs("python", "flask_login", _FRAMEWORKS + "test_middleware.FlaskLoginTest.test_under_gthread"),
        Runs("python", "flask_cors", _FRAMEWORKS + "test_middleware.FlaskCorsTest.test_under_gthread"),
        Runs("python", "opentelemetry", _FRAMEWORKS + "test_tracing.OpenTelemetryBesideTest.test_under_gthread"),
        Runs("python", "def create_app(path", _FRAMEWORKS + "test_sqlalchemy.RecipeTest.test_under_gthread"),
        Runs(
            "python",
            "from example import",
            _FRAMEWORKS + "test_sqlalchemy.RecipeTest.test_the_tests_of_the_page_pass",
        ),
    ],
    "logging.md": [Runs("python", "", _SIGHT + "LoggingPageTest.test_the_formatter_shows_the_fields")],
    "metrics.md": [
        Runs("python", "Metrics()", _SIGHT + "MetricsPageTest.test_the_app_and_the_settings"),
        Runs("python", "raw_env", _SIGHT + "MetricsPageTest.test_the_app_and_the_settings"),
        Runs("python", "class SlowClients", _SIGHT + "MetricsPageTest.test_the_observer"),
    ],
    "postgresql.md": [
        Runs("python", "DATABASES = {", _POSTGRES + "DjangoPageTest.test_the_views_under_the_worker"),
        Runs("python", "flask_sqlalchemy", _POSTGRES + "FlaskPageTest.test_the_app_under_the_worker"),
        Runs("python", "import psycopg2", _POSTGRES + "DriverPageTest.test_the_lines_of_both_drivers"),
        Runs("python", "hub.log.transaction()", _POSTGRES + "DriverPageTest.test_the_log_lends_a_connection"),
        Runs("sql", "sse_threaded_publish", _POSTGRES + "SQLPageTest.test_an_event_from_sql"),
        Runs("sh", "schema", _POSTGRES + "CommandPageTest.test_the_grants_are_enough"),
        Runs("sql", "TO reporter", _POSTGRES + "SQLPageTest.test_the_role_that_only_adds_events"),
    ],
    "protocol.md": [
        Runs("http", "text/event-stream", _PROTOCOL + "test_the_beginning_of_a_stream"),
        Runs("text", "stream-start", _PROTOCOL + "test_the_beginning_of_a_stream"),
        Runs("http", "application/json", _PROTOCOL + "test_a_long_poll"),
        Runs("json", "", _PROTOCOL + "test_a_long_poll"),
        Runs("sh", "", _BLOCKS + "ClientCommandsTest.test_the_commands_of_the_protocol_page"),
    ],
    "proxies.md": [
        Runs("haproxy", "", _PROXIES + "HAProxyTest.test_streams"),
        Runs("http", "", _PROXIES + "HAProxyTest.test_while_the_app_is_down_streams_get_a_reconnection_time"),
        Runs("apache", "", _PROXIES + "ApacheTest.test_streams"),
    ],
    "publishing.md": [
        Runs("python", "threading.Thread", _PUBLISHING + "PythonTest.test_a_thread"),
        Runs("python", "from celery", _PUBLISHING + "PythonTest.test_a_celery_task_in_a_real_worker"),
        Runs(
            "python",
            "# shop/jobs.py",
            "tests.redis.test_publishing_page_redis.RQTest.test_an_rq_job_in_a_real_worker",
        ),
        Runs("sh", "SSE_THREADED_URL", _PUBLISHING + "ShellTest.test_the_commands"),
        Runs("python", "hub.publisher(", _PUBLISHING + "HTTPTest.test_curl_and_the_same_again"),
        Runs("sh", "token_urlsafe", _PUBLISHING + "HTTPTest.test_curl_and_the_same_again"),
        Runs("sh", "curl", _PUBLISHING + "HTTPTest.test_curl_and_the_same_again"),
        Runs("js", "", _PUBLISHING + "HTTPTest.test_node"),
    ],
    "python-client.md": [
        Runs("python", "load the state again", _CLIENT + "test_the_loop"),
        Runs("python", "max_failures=20", _CLIENT + "test_errors"),
        Runs("python", "/var/lib/shop", _CLIENT + "test_going_on_after_a_restart"),
        Runs("python", "thread.join()", _CLIENT + "test_another_thread_closes"),
        Runs("python", "class Token", _CLIENT + "test_an_authentication_object"),
        Runs("sh", "sse-threaded listen", _BLOCKS + "ClientCommandsTest.test_the_command_of_the_python_client"),
    ],
    "servers.md": [Runs("python", "mod_wsgi", _BLOCKS + "PythonTest.test_the_line_for_mod_wsgi")],
    "scale.md": [Runs("python", "zlib", _BLOCKS + "PythonTest.test_several_redis")],
    "steps.md": [
        Runs("python", "", _STEPS + "FlaskTest.test_1_live_updates"),
        Runs("diff", "", _STEPS + "DjangoTest.test_6_tests"),
        Runs("html", "", _BROWSER + "SnippetTest.test_the_page_of_the_steps"),
        Runs("sh", "", _BLOCKS + "ServerCommandsTest.test_the_command_of_the_steps"),
    ],
    "testing.md": [
        Runs("python", "EVENTS_URL", _BLOCKS + "PythonTest.test_the_line_for_the_place_of_the_log"),
        Runs("python", "def test_an_order", _BLOCKS + "TestsTest.test_a_response_of_a_test_client"),
        Runs("python", "pytest_plugins", _BLOCKS + "TestsTest.test_the_line_for_pytest"),
    ],
    "tracing.md": [Runs("python", "", _FRAMEWORKS + "test_own_spans.PageSpansTest.test_it_runs")],
    "tutorial.md": [
        Runs("python", "", _TUTORIAL + "test_each_step_shows_what_the_page_says"),
        Runs("html+jinja", "", _TUTORIAL + "test_each_step_shows_what_the_page_says"),
        Runs("diff", "", _TUTORIAL + "test_each_step_shows_what_the_page_says"),
        Runs("sh", "flask --app", _TUTORIAL + "test_each_step_shows_what_the_page_says"),
        Runs("sh", "gunicorn", _TUTORIAL + "test_each_step_shows_what_the_page_says"),
        Runs("sh", "sse-threaded publish", _TUTORIAL + "test_each_step_shows_what_the_page_says"),
        Runs("sh", "curl -N", _TUTORIAL + "test_the_bytes"),
        Runs("text", "stream-start", _TUTORIAL + "test_the_bytes"),
    ],
    "usage.md": [
        Runs("python", "# gunicorn.conf.py", _README + "test_the_flask_app_runs_under_the_configuration_shown"),
        Runs("python", "gunicorn_hooks", _README + "test_the_flask_app_runs_under_the_configuration_shown"),
        Runs("python", "StreamingHttpResponse", _README + "test_djangos_and_bottles_lines"),
        Runs("python", "long_poll=False", _README + "test_a_wrapper_drops_events_and_keeps_the_status"),
        Runs("python", 'hub.finish("job-7"', _USAGE + "test_a_stream_that_ends"),
        Runs("python", "connection=connection", _README + "test_an_event_in_djangos_own_transaction"),
        Runs("python", "on_commit(lambda", _DJANGO + "AfterCommitTest.test_as_the_usage_page_shows_it_too"),
        Runs("python", "snapshot()", _README + "test_rows_and_event_and_the_snapshot"),
        Runs("html", "", _BROWSER + "SnippetTest.test_a_page_that_begins_after_its_rows"),
        Runs(
            "python",
            "redis.internal",
            "tests.redis.test_readme_redis.ReadmeRedisTest.test_a_log_in_redis_and_a_step_of_ones_own",
        ),
        Runs(
            "python",
            "hub.log.run(",
            "tests.redis.test_readme_redis.ReadmeRedisTest.test_a_log_in_redis_and_a_step_of_ones_own",
        ),
    ],
}

RUN["check.md"] = [
    Runs("console", "", "tests.unit.test_check_findings.PageTest.test_the_output_on_the_page"),
    Runs("", "http-request return", "tests.deploy.test_check.WrongProxyTest.test_haproxy"),
]
RUN["live.md"] = [
    Runs("python", "render_template", _LIVE + "test_flask"),
    Runs("html", "{{ last_event_id }}", _LIVE + "test_flask"),
    Runs("html", "{% static", _LIVE + "test_django"),
    Runs("python", "sse_threaded.django", _LIVE + "test_django"),
    Runs("python", "DispatcherMiddleware", _LIVE + "test_werkzeug"),
]
RUN["operations.md"] = [
    Runs("python", "", "tests.live.test_operations_page.OperationsPageTest.test_the_page_is_for_operators")
]
RUN["presence.md"] = [
    Runs("python", "", "tests.live.test_presence_page.PresencePageTest.test_two_users_see_each_other"),
    Runs("html", "", "tests.browser.test_presence_page.PresencePageTest.test_people_come_and_go"),
]

_COMMANDS = "tests.quality.test_every_block.CommandsTest.test_what_the_commands_name_exists"

_WORDS = "tests.quality.test_every_block.CommandsTest.test_the_packages_own_command_understands_its_words"

# They install, or change the machine, or need a server that the tests do not have.
CHECKED: dict[str, list[Runs]] = {
    "CONTRIBUTING.md": [Runs("sh", "", _COMMANDS)],
    "README.md": [Runs("sh", "bash tests/run", _COMMANDS), Runs("sh", "sphinx", _COMMANDS)],
    "check.md": [Runs("sh", "", _WORDS)],
    "operations.md": [Runs("sh", "", _WORDS)],
    "live.md": [
        Runs("js", "sse-threaded-live", "tests.browser.test_live_files.FilesTest.test_the_page_names_the_package")
    ],
    "deployment.md": [Runs("sh", "systemctl", _COMMANDS)],
    "python-client.md": [Runs("sh", "pip install", _COMMANDS)],
    "servers.md": [
        Runs("sh", "uwsgi", _COMMANDS),
        Runs("apache", "", "tests.quality.test_every_block.CommandsTest.test_the_lines_for_apache"),
    ],
    "tutorial.md": [Runs("sh", "pip install", _COMMANDS)],
}
