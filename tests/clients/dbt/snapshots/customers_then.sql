{% snapshot customers_then %}
{{ config(unique_key='id', strategy='check', check_cols=['name'], target_schema=target.schema) }}
SELECT * FROM {{ ref('customers') }}
{% endsnapshot %}
