{{ config(materialized='incremental', unique_key='id') }}
SELECT id, amount FROM {{ ref('orders') }}
{% if is_incremental() %} WHERE id > 1 {% endif %}
