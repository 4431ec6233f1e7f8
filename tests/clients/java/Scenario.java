// The JVM's own HTTP, by which Google's Java client goes, doing what its users do; see ../README.md for the environment.
// It reads the file of GOOGLE_APPLICATION_CREDENTIALS (external_account with a URL) as Google's library does.

import java.io.IOException;
import java.net.HttpURLConnection;
import java.net.URI;
import java.net.URLEncoder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

public final class Scenario {
  private static final String DATASET = System.getenv("BIGQUERY_DATASET");
  private static final String URL = System.getenv().getOrDefault("BIGQUERY_URL", "https://bigquery.googleapis.com");
  private static final String PROJECT = URL + "/bigquery/v2/projects/" + System.getenv().getOrDefault("BIGQUERY_PROJECT", "proj");
  private static String token = "anonymous";

  public static void main(String[] arguments) throws IOException {
    String file = System.getenv("GOOGLE_APPLICATION_CREDENTIALS");
    if (System.getenv("BIGQUERY_URL") == null) token = exchanged(Files.readString(Path.of(file)));
    step("create_dataset", "POST", "/datasets", "{\"datasetReference\":{\"datasetId\":\"" + DATASET + "\"}}", "id");
    step("create_table", "POST", "/queries", query("CREATE TABLE " + DATASET + ".people (id INT64, name STRING)"), "jobComplete");
    step("insert_all", "POST", "/datasets/" + DATASET + "/tables/people/insertAll", "{\"rows\":[{\"json\":{\"id\":1,\"name\":\"Ada\"}}]}", "kind");
    step("query", "POST", "/queries", query("SELECT name FROM " + DATASET + ".people"), "v");
    step("job", "POST", "/jobs", "{\"configuration\":{\"query\":" + query("SELECT 1 AS x") + "}}", "state");
    step("list_rows", "GET", "/datasets/" + DATASET + "/tables/people/data", null, "totalRows");
    step("error_missing_table", "GET", "/datasets/" + DATASET + "/tables/nowhere", null, "message");
    step("delete_dataset", "DELETE", "/datasets/" + DATASET + "?deleteContents=true", null, "none");
    step("dataset_is_gone", "GET", "/datasets/" + DATASET, null, "reason");
  }

  private static String query(String sql) {
    return "{\"query\":\"" + sql + "\",\"useLegacySql\":false}";
  }

  private record Answer(int status, String body) {}

  private static void step(String name, String method, String path, String body, String field) throws IOException {
    Answer answer = ask(method, PROJECT + path, body, "application/json", "Authorization", "Bearer " + token);
    String value = field(answer.body(), field).replace(DATASET, "<dataset>");
    System.out.println("{\"step\": \"" + name + "\", \"value\": [" + answer.status() + ", \"" + value + "\"]}");
  }

  private static Answer ask(String method, String url, String body, String type, String... header) throws IOException {
    var connection = (HttpURLConnection) URI.create(url).toURL().openConnection();
    connection.setRequestMethod(method);
    connection.setRequestProperty(header[0], header[1]);
    if (body != null) {
      connection.setDoOutput(true);
      connection.setRequestProperty("Content-Type", type);
      connection.getOutputStream().write(body.getBytes(StandardCharsets.UTF_8));
    }
    int status = connection.getResponseCode();
    var stream = status < 400 ? connection.getInputStream() : connection.getErrorStream();
    return new Answer(status, stream == null ? "" : new String(stream.readAllBytes(), StandardCharsets.UTF_8));
  }

  /** The first value of a name, wherever it is. */
  private static String field(String json, String name) {
    Matcher matcher = Pattern.compile("\"" + name + "\"\\s*:\\s*\"?([^\",}]*)").matcher(json);
    return matcher.find() ? matcher.group(1) : "";
  }

  /** RFC 8693: the subject's token for an access token. */
  private static String exchanged(String file) throws IOException {
    String subject = ask("GET", field(file, "url"), null, null, "Metadata-Flavor", field(file, "Metadata-Flavor")).body();
    String form = "grant_type=" + encoded("urn:ietf:params:oauth:grant-type:token-exchange")
        + "&requested_token_type=" + encoded("urn:ietf:params:oauth:token-type:access_token")
        + "&subject_token_type=" + encoded(field(file, "subject_token_type"))
        + "&audience=" + encoded(field(file, "audience")) + "&subject_token=" + encoded(field(subject, "id_token"));
    String type = "application/x-www-form-urlencoded";
    return field(ask("POST", field(file, "token_url"), form, type, "Accept", "application/json").body(), "access_token");
  }

  private static String encoded(String text) {
    return URLEncoder.encode(text, StandardCharsets.UTF_8);
  }
}
